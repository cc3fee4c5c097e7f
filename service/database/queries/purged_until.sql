-- The end of the last 15 minutes between $1 and $2 of which requests were purged. NULL: no limit; no row: there are none.
SELECT (t.day + (s.slot + 1) * interval '15 minutes') AT TIME ZONE 'UTC' AS moment
FROM stats_schema.chat_stats_purged AS t
CROSS JOIN LATERAL unnest(t.slots) AS s (slot)
CROSS JOIN LATERAL (SELECT (t.day + s.slot * interval '15 minutes') AT TIME ZONE 'UTC' AS bucket) AS b
WHERE isfinite(t.day)
  AND ($1::timestamptz IS NULL OR b.bucket + interval '15 minutes' > $1)
  AND ($2::timestamptz IS NULL OR b.bucket < $2)
ORDER BY moment DESC
LIMIT 1
