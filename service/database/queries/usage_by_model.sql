{% import 'macros/requests.sql.j2' as requests %}
-- fallback_optimized: one plain GROUP BY, with the numbers of chat_stats_usage() and needing no function.
-- $1, $2: start and end of the time range; $3, $4: a provider's and a model's id as text. NULL: no limit.
WITH catalogue AS (
    {{ requests.catalogue('$3::text', '$4::text') | indent(4) }}
), usage AS (
    SELECT
        r.model_id,
        r.status,
        {{ requests.by_status() | indent(8) }}
    FROM {{ requests.absent() }}
    CROSS JOIN LATERAL (
        SELECT model_id, status, {{ requests.as_they_are() }}
        FROM gateway_schema.chat_completion_requests
        WHERE ($1::timestamptz IS NULL OR created_at >= $1)
          AND ($2::timestamptz IS NULL OR created_at < $2)
          AND ($3::text IS NULL AND $4::text IS NULL
               OR model_id = ANY (ARRAY(SELECT c.model_id FROM catalogue AS c)))
    ) AS r
    GROUP BY r.model_id, r.status
)
SELECT
    c.*,
    {{ requests.over_status(as='total', plain=true) | indent(4) }}
FROM usage AS u
JOIN catalogue AS c ON c.model_id = u.model_id
GROUP BY
    c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
    c.provider_id, c.provider_name, c.provider_slug
ORDER BY total_requests DESC, c.model_id
