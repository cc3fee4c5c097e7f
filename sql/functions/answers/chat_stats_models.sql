-- The rows of get_models_with_requests, of all providers or of one (its id as text).
SELECT chat_stats_claim_function('chat_stats_models');

SELECT chat_stats_install('chat_stats_models', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_models(p_start timestamptz, p_end timestamptz, p_provider_id text)
RETURNS TABLE (
    model_id gateway_schema.models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider jsonb,
    stats jsonb
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        u.model_id, u.model_identifier, u.model_name, u.provider_model_id,
        jsonb_build_object('id', u.provider_id, 'name', u.provider_name, 'slug', u.provider_slug),
        jsonb_build_object(
            'total_requests', u.total_requests,
            'total_input_tokens', stats_schema.chat_stats_saturate(u.total_input_tokens),
            'total_output_tokens', stats_schema.chat_stats_saturate(u.total_output_tokens),
            'total_tokens', stats_schema.chat_stats_saturate(u.total_input_tokens + u.total_output_tokens),
            'avg_processing_time_ms', stats_schema.chat_stats_mean(u.total_processing_time_ms, u.timed_requests)
        )
    FROM stats_schema.chat_stats_usage(p_start, p_end, p_provider_id, NULL::text, NULL::text) AS u
    WHERE u.model_id IS NOT NULL
    ORDER BY u.total_requests DESC, u.model_id;
END
$function$;
$install$);
