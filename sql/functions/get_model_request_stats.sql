-- Statistics of one model over [p_start, p_end). No row when it has no requests there.
SELECT chat_stats_claim_function('get_model_request_stats');

CREATE OR REPLACE FUNCTION get_model_request_stats(
    p_model_id models.id%TYPE, p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
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
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        u.total_requests,
        chat_stats_saturate(u.total_input_tokens),
        chat_stats_saturate(u.total_output_tokens),
        chat_stats_saturate(u.total_input_tokens + u.total_output_tokens),
        chat_stats_mean(u.total_processing_time_ms, u.timed_requests)
    FROM chat_stats_usage(p_start, p_end, p_model_id => COALESCE(p_model_id::text, '')) AS u;
END
$function$;

SELECT chat_stats_adopt_function('get_model_request_stats');
