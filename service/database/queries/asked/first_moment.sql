-- When the first request was that some filters let through, within the years that all programs know.
-- `service.compute.statement` says which filters.
{% if models %}
WITH catalogue AS MATERIALIZED (
    SELECT m.id AS model_id, m.id::text AS model, p.id::text AS provider
    FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
)
{% endif %}
SELECT
    CASE WHEN min(r.created_at) < '0001-01-01T00:00:00Z'::timestamptz THEN '0001-01-01T00:00:00Z'::timestamptz
         WHEN min(r.created_at) > '9999-01-01T00:00:00Z'::timestamptz THEN '9999-01-01T00:00:00Z'::timestamptz
         ELSE min(r.created_at) END AS first_moment
FROM (SELECT NULL::text AS error_message) AS no_message
CROSS JOIN LATERAL (
    SELECT q.created_at::timestamptz AS created_at, q.model_id
    FROM gateway_schema.chat_completion_requests AS q
    WHERE q.created_at > '-infinity' AND q.created_at < 'infinity'
{% for condition in of_requests %}
      AND {{ condition }}
{% endfor %}
) AS r
{% if models %}
LEFT JOIN catalogue AS c ON c.model_id = r.model_id
WHERE {{ of_groups | join(' AND ') }}
{% endif %}
