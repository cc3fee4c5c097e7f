-- What is known of each rollup that the operator added.
SELECT
    r.name, r.ready, r.drift, r.backfilled_to::text AS backfilled_to,
    -- (Within the years that clients know.)
    CASE WHEN r.whole_from IS NOT NULL
         THEN LEAST(GREATEST(r.whole_from, '0001-01-01T00:00:00Z'), '9999-12-31T00:00:00Z') END AS whole_from,
    COALESCE(r.columns = stats_schema.chat_stats_dimension_columns(r.sources), false) AS same_columns,
    (
        SELECT u.reason || ' (since ' || to_char(min(u.happened_at), 'YYYY-MM-DD HH24:MI:SS') || ' UTC)'
        FROM stats_schema.chat_stats_uncounted AS u
        WHERE u.relation = 'stats_schema.chat_stats_rollups'::regclass::oid
        GROUP BY u.reason
        ORDER BY min(u.happened_at)
        LIMIT 1
    ) AS uncounted
FROM stats_schema.chat_stats_rollups AS r
