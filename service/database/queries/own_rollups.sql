-- The rollups that the operator added, with what is known of each. `padded` are those of its columns that are character(n).
SELECT
    r.name, r.by::text AS by, r.histograms, r.ready, r.drift, r.backfilled_to::text AS backfilled_to,
    -- (Within the years that clients know.)
    CASE WHEN r.whole_from IS NOT NULL
         THEN LEAST(GREATEST(r.whole_from, '0001-01-01T00:00:00Z'), '9999-12-31T00:00:00Z') END AS whole_from,
    COALESCE(r.columns = stats_schema.chat_stats_dimension_columns(r.sources), false) AS same_columns,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attname = ANY (r.sources::name[])
          AND NOT a.attisdropped AND COALESCE(NULLIF(t.typbasetype, 0::oid), t.oid) = 'bpchar'::regtype::oid
    ) AS padded,
    (
        SELECT u.reason || ' (since ' || to_char(min(u.happened_at), 'YYYY-MM-DD HH24:MI:SS') || ' UTC)'
        FROM stats_schema.chat_stats_uncounted AS u
        WHERE u.relation = 'stats_schema.chat_stats_rollups'::regclass::oid
        GROUP BY u.reason
        ORDER BY min(u.happened_at)
        LIMIT 1
    ) AS uncounted
FROM stats_schema.chat_stats_rollups AS r
ORDER BY r.place
