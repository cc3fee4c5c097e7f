{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
{% macro usage(catalogue) -%}
WITH catalogue AS (
    {{ catalogue | indent(4) }}
), found AS MATERIALIZED (
    SELECT c.*, {{ each('u.{total}') }}
    FROM stats_schema.chat_stats_totals(p_start, p_end, {{ filters.arguments() }}) AS u
    LEFT JOIN catalogue AS c ON c.model_id = u.model_id
)
SELECT
    r.model_id, r.model_identifier, r.model_name, r.provider_model_id,
    r.provider_id, r.provider_name, r.provider_slug,
{% for m in measures %}
    {{ 'CASE WHEN (SELECT stats_schema.chat_stats_has_cost()) THEN r.total_cost_usd END' if m.name == 'cost_usd'
       else 'r.' ~ m.total }}{{ ',' if not loop.last }}
{% endfor %}
FROM (
    SELECT f.* FROM found AS f WHERE f.model_id IS NOT NULL AND p_model_id IS DISTINCT FROM 'unresolved'
    UNION ALL
    SELECT
        NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        {{ each('sum(f.{total}){cast}', 8) }}
    FROM found AS f
    WHERE f.model_id IS NULL AND all_models
    HAVING sum(f.total_requests) <> 0
) AS r
ORDER BY r.model_id IS NULL, r.total_requests DESC, r.model_id
{%- endmacro %}
-- Totals per model over [p_start, p_end), for models that exist and have a provider that exists: the rows from which
-- statistics of models and providers are made, most requests first, then by id. Last comes a row whose seven columns of
-- who it is are NULL: the requests of no model and provider that exist, where there are any.
--
-- p_provider_id and p_model_id (as text, since ids may be uuid, int or bigint) and p_model_name (a part of it, in any
-- case) narrow it down to models; p_model_id 'unresolved' to that last row.
-- total_cost_usd is NULL where the requests have no cost_usd column.
SELECT chat_stats_claim_function('chat_stats_usage');

SELECT chat_stats_install('chat_stats_usage', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_usage(
    p_start timestamptz, p_end timestamptz,
    p_provider_id text DEFAULT NULL, p_model_id text DEFAULT NULL, p_model_name text DEFAULT NULL
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
DECLARE
    {{ filters.declared() }}
BEGIN
    -- On Citus by a function: it would plan the whole statement as one of its own otherwise, each time.
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN QUERY
        {{ usage(requests.catalogue('p_provider_id', "NULLIF(p_model_id, 'unresolved'::text)", 'p_model_name')) | indent(8) }};
    ELSE
        RETURN QUERY
        {{ usage("SELECT * FROM stats_schema.chat_stats_catalogue(p_provider_id, NULLIF(p_model_id, 'unresolved'::text), p_model_name)") | indent(8) }};
    END IF;
END
$function$;
$install$);
