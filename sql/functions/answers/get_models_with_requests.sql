-- Models with at least one request in [p_start, p_end), each with its provider and its statistics.
SELECT chat_stats_claim_function('get_models_with_requests');

SELECT chat_stats_install('get_models_with_requests', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_models_with_requests(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
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
    SELECT * FROM stats_schema.chat_stats_models(p_start, p_end, NULL::text);
END
$function$;
$install$);
