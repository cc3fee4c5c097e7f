-- Requests per provider, for providers with at least one request in [p_start, p_end).
SELECT chat_stats_claim_function('get_provider_request_stats');

SELECT chat_stats_install('get_provider_request_stats', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_provider_request_stats(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    provider_id gateway_schema.providers.id%TYPE,
    name text,
    slug text,
    models_with_requests bigint,
    total_requests bigint
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT u.provider_id, u.provider_name, u.provider_slug, count(*), sum(u.total_requests)::bigint
    FROM stats_schema.chat_stats_usage(p_start, p_end, NULL::text, NULL::text, NULL::text) AS u
    WHERE u.model_id IS NOT NULL
    GROUP BY u.provider_id, u.provider_name, u.provider_slug
    ORDER BY sum(u.total_requests) DESC, u.provider_id;
END
$function$;
$install$);
