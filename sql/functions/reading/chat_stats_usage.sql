{% import 'macros/requests.sql.j2' as requests %}
-- Totals per model over [p_start, p_end), for models that exist and have a provider that exists: the rows
-- from which statistics of models and providers are made.
--
-- p_provider_id and p_model_id (as text, since ids may be uuid, int or bigint) narrow it down.
-- total_cost_usd is NULL where the requests have no cost_usd column.
SELECT chat_stats_claim_function('chat_stats_usage');

SELECT chat_stats_install('chat_stats_usage', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_usage(
    p_start timestamptz, p_end timestamptz, p_provider_id text DEFAULT NULL, p_model_id text DEFAULT NULL
)
RETURNS TABLE (
    model_id gateway_schema.models.id%TYPE,
    model_identifier text,
    model_name text,
    provider_model_id text,
    provider_id gateway_schema.providers.id%TYPE,
    provider_name text,
    provider_slug text,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH catalogue AS (
        {{ requests.catalogue('p_provider_id', 'p_model_id') | indent(8) }}
    )
    SELECT
        c.model_id, c.model_identifier, c.model_name, c.provider_model_id,
        c.provider_id, c.provider_name, c.provider_slug,
{% for m in measures %}
        {{ 'CASE WHEN (SELECT stats_schema.chat_stats_has_cost()) THEN u.total_cost_usd END' if m.name == 'cost_usd'
           else 'u.' ~ m.total }}{{ ',' if not loop.last }}
{% endfor %}
    FROM stats_schema.chat_stats_totals(p_start, p_end, p_provider_id, p_model_id) AS u
    JOIN catalogue AS c ON c.model_id = u.model_id
    ORDER BY u.total_requests DESC, c.model_id;
END
$function$;
$install$);
