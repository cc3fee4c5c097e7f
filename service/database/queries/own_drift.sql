-- Rollups $1 differ from the requests in $2 buckets: they are not read until a repair.
UPDATE stats_schema.chat_stats_rollups AS r
SET drift = d.places, ready = r.ready AND d.places = 0, backfilled_to = CASE WHEN d.places = 0 THEN r.backfilled_to END
FROM ROWS FROM (unnest($1::text[]), unnest($2::bigint[])) AS d (name, places)
WHERE r.name = d.name
