-- The end of the last 15 minutes between $1 and $2 of which requests were purged. NULL: no limit; no row: there are none.
SELECT b.bucket + interval '15 minutes' AS moment
FROM (
    SELECT (t.day + s.slot * interval '15 minutes') AT TIME ZONE 'UTC' AS bucket
    FROM stats_schema.{{ rollup('total').purged }} AS t
    CROSS JOIN LATERAL unnest(t.slots) AS s (slot)
    WHERE isfinite(t.day)
    UNION ALL
    SELECT k.bucket FROM stats_schema.chat_stats_kept AS k WHERE isfinite(k.bucket)
{% if on_shards is defined %}
    UNION ALL
    SELECT k.bucket FROM stats_schema.chat_stats_kept_on_shards() AS k WHERE isfinite(k.bucket)
{% endif %}
) AS b
WHERE ($1::timestamptz IS NULL OR b.bucket + interval '15 minutes' > $1)
  AND ($2::timestamptz IS NULL OR b.bucket < $2)
ORDER BY b.bucket DESC
LIMIT 1
