-- Totals per model over [p_start, p_end), for models that exist and have a provider that exists: the one
-- place that reads the requests; every statistic below is made from its rows.
--
-- p_provider_id and p_model_id (as text, since ids may be uuid, int or bigint) narrow it down.
-- total_cost_usd is NULL where the requests have no cost_usd column.
SELECT chat_stats_claim_function('chat_stats_usage');

SELECT chat_stats_install('chat_stats_usage', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_usage(
    p_start timestamptz, p_end timestamptz, p_provider_id text DEFAULT NULL, p_model_id text DEFAULT NULL
)
RETURNS TABLE (
    model_id gateway_schema.models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider_id gateway_schema.providers.id%TYPE,
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
            FROM gateway_schema.models
        ) AS m
        JOIN gateway_schema.providers AS p ON p.id = m.provider_id
        WHERE (p_provider_id IS NULL OR p.id::text = p_provider_id)
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
    )
    SELECT
        c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
        c.provider_id, c.provider_name, c.provider_slug,
        u.total_requests, u.successful_requests, u.total_input_tokens, u.total_output_tokens,
        u.timed_requests, u.total_processing_time_ms,
        CASE WHEN (SELECT stats_schema.chat_stats_has_cost()) THEN u.total_cost_usd END
    FROM stats_schema.chat_stats_totals(p_start, p_end, p_provider_id, p_model_id) AS u
    JOIN catalogue AS c ON c.model_id = u.model_id
    ORDER BY u.total_requests DESC, c.model_id;
END
$function$;
$install$);
