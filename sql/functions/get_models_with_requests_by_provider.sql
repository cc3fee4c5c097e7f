-- Models of one provider with at least one request in [p_start, p_end), each with its statistics.
SELECT chat_stats_claim_function('get_models_with_requests_by_provider');

CREATE OR REPLACE FUNCTION get_models_with_requests_by_provider(
    p_provider_id providers.id%TYPE, p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    model_id models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider jsonb,
    stats jsonb
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN QUERY
    SELECT * FROM chat_stats_models(p_start, p_end, COALESCE(p_provider_id::text, ''));
END
$function$;

SELECT chat_stats_adopt_function('get_models_with_requests_by_provider');
