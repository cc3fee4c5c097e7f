-- What is watched of a rollup's upkeep. Deltas are counted up to a million: then they do not get folded.
SELECT
    s.folded_at, s.audited_at, s.drift,
    (
        SELECT count(*) FROM (SELECT FROM stats_schema.chat_stats_deltas LIMIT 1000000) AS d
    ) AS unfolded_deltas
FROM stats_schema.chat_stats_rollup_state AS s
