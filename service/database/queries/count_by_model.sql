{% import 'plain.sql.j2' as plain %}
-- fallback_with_counts: the requests of each model, from an index alone.
-- $1, $2: start and end of the time range; $3, $4, $5: filters by provider, model and model's name. NULL: no limit.
WITH catalogue AS MATERIALIZED (
    {{ plain.catalogue() | indent(4) }}
), usage AS (
    SELECT model_id, count(*) AS requests
    FROM gateway_schema.chat_completion_requests
    WHERE {{ plain.wanted() | indent(6) }}
    GROUP BY model_id
)
{{ plain.by_model('sum(u.requests)::bigint AS total_requests') }}
