-- In how many places the coarser tiers of each rollup differ from the finer ones; without those that are not made right yet.
SELECT d.rollup, d.places
FROM stats_schema.chat_stats_rollup_tier_drifts() AS d
WHERE d.places > 0
  AND d.rollup <> ALL (ARRAY(SELECT r.name FROM stats_schema.chat_stats_rollups AS r WHERE NOT r.ready))
