-- The rollups that the operator added, as they are declared. `padded` are those of its columns that are character(n). It
-- calls no function of ours: `chat-stats migrate` asks before there are any.
SELECT
    r.name, r.by::text AS by, r.histograms,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attname = ANY (r.sources::name[])
          AND NOT a.attisdropped AND COALESCE(NULLIF(t.typbasetype, 0::oid), t.oid) = 'bpchar'::regtype::oid
    ) AS padded
FROM stats_schema.chat_stats_rollups AS r
ORDER BY r.place
