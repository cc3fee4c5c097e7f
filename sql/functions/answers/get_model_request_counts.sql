-- Number of requests of each model with at least one in [p_start, p_end).
SELECT chat_stats_claim_function('get_model_request_counts');

SELECT chat_stats_install('get_model_request_counts', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_model_request_counts(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    model_id gateway_schema.models.id%TYPE,
    model_name text,
    model_identifier text,
    provider_name text,
    provider_slug text,
    request_count bigint
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT u.model_id, u.model_name, u.model_identifier, u.provider_name, u.provider_slug, u.total_requests
    FROM stats_schema.chat_stats_usage(p_start, p_end, NULL::text, NULL::text, NULL::text) AS u
    WHERE u.model_id IS NOT NULL
    ORDER BY u.total_requests DESC, u.model_id;
END
$function$;
$install$);
