-- As rollup_vitals.sql, where Citus holds the requests.
SELECT
    s.folded_at, s.audited_at, s.drift,
    stats_schema.chat_stats_unfolded_deltas() AS unfolded_deltas
FROM stats_schema.chat_stats_rollup_state AS s
