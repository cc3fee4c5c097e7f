{% import 'macros/rollups.sql.j2' as kept %}
-- What is kept of requests that were purged, by model, for the buckets that begin between $1 and $2. NULL: no limit.
SELECT
    s.model_id::text AS model_id,
    {{ each('sum(s.{name}){cast} AS {total}', 4) }}
FROM (
    SELECT
        p.model_id, (p.day + s.slot * interval '15 minutes') AT TIME ZONE 'UTC' AS bucket,  -- infinite for infinite days
        {{ each('s.{name}') }}
    FROM stats_schema.{{ rollup('model').purged }} AS p
    CROSS JOIN LATERAL {{ kept.slots_of('p') }}
    UNION ALL
    SELECT k.model_id, k.bucket, {{ each('k.{name}') }}
    FROM stats_schema.chat_stats_kept AS k
) AS s
WHERE ($1::timestamptz IS NULL OR s.bucket >= $1)
  AND ($2::timestamptz IS NULL OR s.bucket < $2)
GROUP BY s.model_id
HAVING sum(s.requests) <> 0
