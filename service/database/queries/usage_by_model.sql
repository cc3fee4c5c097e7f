-- fallback_optimized: one plain GROUP BY, with the numbers of chat_stats_usage() and needing no function.
-- $1, $2: start and end of the time range; $3, $4: a provider's and a model's id as text. NULL: no limit.
WITH catalogue AS (
    -- model_id is an optional column: where it is missing, the name is found one scope out, in "absent".
    SELECT
        m.id AS model_id,
        m.model_identifier,
        m.model_name::text AS model_name,
        m.provider_model_id::text AS provider_model_id,
        p.id AS provider_id,
        p.name::text AS provider_name,
        p.slug::text AS provider_slug
    FROM (SELECT NULL::text AS model_id) AS absent
    CROSS JOIN LATERAL (
        SELECT
            id, provider_id, model_name, provider_model_id,
            COALESCE(model_id::text, provider_model_id::text) AS model_identifier
        FROM gateway_schema.models
    ) AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
    WHERE ($3::text IS NULL OR p.id::text = $3)
      AND ($4::text IS NULL OR m.id::text = $4)
), usage AS (
    SELECT
        r.model_id,
        r.status,
        count(*) AS total_requests,
        sum(r.input_tokens)::numeric AS total_input_tokens,
        sum(r.output_tokens)::numeric AS total_output_tokens,
        count(*) FILTER (
            WHERE r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
        ) AS timed_requests,
        sum(r.processing_time_ms) FILTER (
            WHERE r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
        )::numeric AS total_processing_time_ms,
        sum(r.cost_usd) FILTER (
            WHERE r.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
        )::numeric AS total_cost_usd
    FROM (SELECT NULL::numeric AS cost_usd) AS absent
    CROSS JOIN LATERAL (
        SELECT model_id, status, input_tokens, output_tokens, processing_time_ms, readable.cost_usd
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
    sum(u.total_requests)::bigint AS total_requests,
    COALESCE(sum(u.total_requests) FILTER (
        WHERE lower(rtrim(concat(u.status))) IN (
            'completed', 'complete', 'success', 'successful', 'succeeded', 'ok', '200'
        )
    ), 0)::bigint AS successful_requests,
    COALESCE(sum(u.total_input_tokens), 0) AS total_input_tokens,
    COALESCE(sum(u.total_output_tokens), 0) AS total_output_tokens,
    sum(u.timed_requests)::bigint AS timed_requests,
    COALESCE(sum(u.total_processing_time_ms), 0) AS total_processing_time_ms,
    COALESCE(sum(u.total_cost_usd), 0) AS total_cost_usd
FROM usage AS u
JOIN catalogue AS c ON c.model_id = u.model_id
GROUP BY
    c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
    c.provider_id, c.provider_name, c.provider_slug
ORDER BY total_requests DESC, c.model_id
