-- Models with at least one request in [p_start, p_end), each with its provider and its statistics.
SELECT chat_stats_claim_function('get_models_with_requests');

CREATE OR REPLACE FUNCTION get_models_with_requests(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
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
    SELECT * FROM chat_stats_models(p_start, p_end, NULL);
END
$function$;

SELECT chat_stats_adopt_function('get_models_with_requests');
