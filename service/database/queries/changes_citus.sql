-- As changes.sql, where Citus holds the requests.
SELECT
    stats_schema.chat_stats_rollup_ready() AS ready,
    stats_schema.chat_stats_unfolded_deltas() AS waiting
