-- Statistics of one model over [p_start, p_end). No row when it has no requests there.
SELECT chat_stats_claim_function('get_model_request_stats');

SELECT chat_stats_install('get_model_request_stats', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_model_request_stats(
    p_model_id gateway_schema.models.id%TYPE, p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    total_requests bigint,
    total_input_tokens bigint,
    total_output_tokens bigint,
    total_tokens bigint,
    avg_processing_time_ms numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        u.total_requests,
        stats_schema.chat_stats_saturate(u.total_input_tokens),
        stats_schema.chat_stats_saturate(u.total_output_tokens),
        stats_schema.chat_stats_saturate(u.total_input_tokens + u.total_output_tokens),
        stats_schema.chat_stats_mean(u.total_processing_time_ms, u.timed_requests)
    FROM stats_schema.chat_stats_usage(p_start, p_end, NULL::text, COALESCE(p_model_id::text, ''), NULL::text) AS u;
END
$function$;
$install$);
