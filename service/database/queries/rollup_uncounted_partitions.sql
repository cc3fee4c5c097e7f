-- Partitions with writes that went uncounted for the reason $1, and the whole buckets that each may hold.
SELECT
    n.partition::bigint AS relation,
    stats_schema.chat_stats_bucket(n.starts)::text AS start,
    CASE WHEN n.ends > stats_schema.chat_stats_bucket(n.ends)
         THEN stats_schema.chat_stats_bucket(n.ends) + interval '15 minutes' ELSE n.ends END::text AS end
FROM stats_schema.chat_stats_partitions_now() AS n
WHERE EXISTS (
    SELECT FROM stats_schema.chat_stats_uncounted AS u WHERE u.relation = n.partition AND u.reason = $1::text
)
