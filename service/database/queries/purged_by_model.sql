{% import 'macros/rollups.sql.j2' as kept %}
-- What is kept of requests that were purged, by model, for the buckets that begin between $1 and $2. NULL: no limit.
SELECT
    t.model_id::text AS model_id,
    {{ each('sum(s.{name}){cast} AS {total}', 4) }}
FROM stats_schema.chat_stats_purged AS t
CROSS JOIN LATERAL {{ kept.slots_of('t') }}
CROSS JOIN LATERAL (
    SELECT (t.day + s.slot * interval '15 minutes') AT TIME ZONE 'UTC' AS bucket  -- an infinite day stays infinite
) AS b
WHERE ($1::timestamptz IS NULL OR b.bucket >= $1)
  AND ($2::timestamptz IS NULL OR b.bucket < $2)
GROUP BY t.model_id
HAVING sum(s.requests) <> 0
