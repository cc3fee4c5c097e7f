-- Keeps the first of the writes that went uncounted for the same reason: one says as much as thousands.
DELETE FROM stats_schema.chat_stats_uncounted
WHERE ctid = ANY (ARRAY(
    SELECT u.ctid
    FROM (
        SELECT ctid, row_number() OVER (PARTITION BY relation, reason ORDER BY happened_at) AS n
        FROM stats_schema.chat_stats_uncounted
    ) AS u
    WHERE u.n > 1
))
