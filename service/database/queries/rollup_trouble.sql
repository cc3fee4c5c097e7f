-- What else may keep it from being read: partitions without our triggers, columns that are no longer those of which it
-- was made, and why writes went uncounted, with the first time of each.
SELECT
    s.ready, s.drift,
    ARRAY(
        SELECT t.relation::regclass::text FROM stats_schema.chat_stats_request_tables() AS t WHERE t.firing < 4
    ) AS untriggered,
    ARRAY(
        SELECT key
        FROM jsonb_each_text(stats_schema.chat_stats_request_columns()) AS n
        FULL JOIN jsonb_each_text(s.columns) AS m USING (key)
        WHERE m.value IS DISTINCT FROM n.value
        ORDER BY key
    ) AS changed,
    (
        SELECT u.reason || ' (since ' || to_char(min(u.happened_at), 'YYYY-MM-DD HH24:MI:SS') || ' UTC)'
        FROM stats_schema.chat_stats_uncounted AS u
        JOIN stats_schema.chat_stats_request_tables() AS t ON t.relation = u.relation
        GROUP BY u.reason
        ORDER BY min(u.happened_at)
        LIMIT 1
    ) AS uncounted
FROM stats_schema.chat_stats_rollup_state AS s
