-- A repair reached its end: rollups that were recounted as a whole, and that our functions keep up, are right: all, or $1 alone.
UPDATE stats_schema.chat_stats_rollups AS r
SET ready = true, drift = 0, backfilled_to = NULL
WHERE NOT r.ready AND r.backfilled_to = 'infinity'
  AND r.columns = stats_schema.chat_stats_dimension_columns(r.sources)
  AND r.name = ANY (stats_schema.chat_stats_own_rollups())
  AND COALESCE(r.name = $1::text, true)
