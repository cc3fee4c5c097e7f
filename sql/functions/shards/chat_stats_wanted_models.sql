{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
-- The models of a provider (its id as text), or the one with an id, or those whose names contain a text; NULL: of all.
SELECT chat_stats_claim_function('chat_stats_wanted_models');

SELECT chat_stats_install('chat_stats_wanted_models', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_wanted_models({{ filters.parameters() }})
RETURNS TABLE (id gateway_schema.models.id%TYPE)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    {{ requests.wanted_models('id') | indent(4) }};
END
$function$;
$install$);
