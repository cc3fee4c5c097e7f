-- Number of requests of each model with at least one in [p_start, p_end).
SELECT chat_stats_claim_function('get_model_request_counts');

CREATE OR REPLACE FUNCTION get_model_request_counts(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    model_id models.id%TYPE,
    model_name text,
    model_identifier text,
    provider_name text,
    provider_slug text,
    request_count bigint
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN QUERY
    SELECT u.model_id, u.model_name, u.model_identifier, u.provider_name, u.provider_slug, u.total_requests
    FROM chat_stats_usage(p_start, p_end) AS u
    ORDER BY u.total_requests DESC, u.model_id;
END
$function$;

SELECT chat_stats_adopt_function('get_model_request_counts');
