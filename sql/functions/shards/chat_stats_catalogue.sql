{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
-- The models that have a provider, with it, as chat_stats_usage() narrows them down.
SELECT chat_stats_claim_function('chat_stats_catalogue');

SELECT chat_stats_install('chat_stats_catalogue', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_catalogue({{ filters.parameters() }})
RETURNS TABLE (
    model_id gateway_schema.models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider_id gateway_schema.providers.id%TYPE,
    provider_name text,
    provider_slug text
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    {{ requests.catalogue('p_provider_id', 'p_model_id', 'p_model_name') | indent(4) }};
END
$function$;
$install$);
