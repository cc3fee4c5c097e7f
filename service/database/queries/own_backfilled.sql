-- What lies between $1 and $2 (NULL: no end) has been recounted, of all rollups or of $3 alone.
UPDATE stats_schema.chat_stats_rollups AS r
SET backfilled_to = GREATEST(r.backfilled_to, COALESCE($2::text::timestamptz, 'infinity'))
WHERE NOT r.ready AND r.backfilled_to >= $1::text::timestamptz AND COALESCE(r.name = $3::text, true)
