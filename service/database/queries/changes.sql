-- Whether the functions read the rollup, and how many changes wait to be folded into it.
SELECT
    stats_schema.chat_stats_rollup_ready() AS ready,
    (SELECT count(*) FROM stats_schema.chat_stats_deltas) AS waiting
