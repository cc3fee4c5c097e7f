{% import 'macros/requests.sql.j2' as requests %}
{% import 'plain.sql.j2' as plain %}
-- fallback_optimized: one plain GROUP BY, with the rows of `rpc` and needing no function.
-- $1, $2: start and end of the time range; $3, $4, $5: filters by provider, model and model's name. NULL: no limit.
WITH catalogue AS MATERIALIZED (
    {{ plain.catalogue() | indent(4) }}
), usage AS (
    SELECT
        r.model_id,
        r.status,
        {{ requests.by_status() | indent(8) }}
    FROM {{ requests.absent() }}
    CROSS JOIN LATERAL (
        SELECT model_id, status, {{ requests.as_they_are() }}
        FROM gateway_schema.chat_completion_requests
        WHERE {{ plain.wanted() | indent(10) }}
    ) AS r
    GROUP BY r.model_id, r.status
)
{{ plain.by_model(requests.over_status(as='total', plain=true)) }}
