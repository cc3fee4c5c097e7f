-- Totals per model over [p_start, p_end), for models that exist and have a provider that exists: the one
-- place that reads the requests; every statistic below is made from its rows.
--
-- p_provider_id and p_model_id (as text, since ids may be uuid, int or bigint) narrow it down.
-- total_cost_usd is NULL where the requests have no cost_usd column.
SELECT chat_stats_claim_function('chat_stats_usage');

CREATE OR REPLACE FUNCTION chat_stats_usage(
    p_start timestamptz, p_end timestamptz, p_provider_id text DEFAULT NULL, p_model_id text DEFAULT NULL
)
RETURNS TABLE (
    model_id models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider_id providers.id%TYPE,
    provider_name text,
    provider_slug text,
    total_requests bigint,
    successful_requests bigint,
    total_input_tokens numeric,
    total_output_tokens numeric,
    timed_requests bigint,
    total_processing_time_ms numeric,
    total_cost_usd numeric
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH catalogue AS (
        -- An optional column that the table lacks is found one scope further out, in "absent": this works
        -- with and without the column, and goes on working when it is dropped later.
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
            FROM models
        ) AS m
        JOIN providers AS p ON p.id = m.provider_id
        WHERE (p_provider_id IS NULL OR p.id::text = p_provider_id)
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
    ), usage AS (
        SELECT
            r.model_id,
            r.status,
            count(*) AS total_requests,
            sum(r.input_tokens)::numeric AS total_input_tokens,
            sum(r.output_tokens)::numeric AS total_output_tokens,
            -- NaN, infinities and what is beyond reason are no times and no costs. (These bounds suit each
            -- type, and a comparison costs less than arithmetic.)
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
            SELECT model_id, status, input_tokens, output_tokens, processing_time_ms, cost_usd
            FROM chat_completion_requests
            WHERE (p_start IS NULL OR created_at >= p_start)
              AND (p_end IS NULL OR created_at < p_end)
              AND (p_provider_id IS NULL AND p_model_id IS NULL
                   OR model_id = ANY (ARRAY(SELECT c.model_id FROM catalogue AS c)))
        ) AS r
        GROUP BY r.model_id, r.status
    )
    SELECT
        c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
        c.provider_id, c.provider_name, c.provider_slug,
        sum(u.total_requests)::bigint,
        COALESCE(sum(u.total_requests) FILTER (
            WHERE lower(u.status::text) IN (
                'completed', 'complete', 'success', 'successful', 'succeeded', 'ok', '200'
            )
        ), 0)::bigint,
        COALESCE(sum(u.total_input_tokens), 0),
        COALESCE(sum(u.total_output_tokens), 0),
        sum(u.timed_requests)::bigint,
        COALESCE(sum(u.total_processing_time_ms), 0),
        CASE WHEN (SELECT chat_stats_has_cost()) THEN COALESCE(sum(u.total_cost_usd), 0) END
    FROM usage AS u
    JOIN catalogue AS c ON c.model_id = u.model_id
    GROUP BY
        c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
        c.provider_id, c.provider_name, c.provider_slug
    ORDER BY sum(u.total_requests) DESC, c.model_id;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_usage');
