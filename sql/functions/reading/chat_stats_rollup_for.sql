-- The smallest rollup of the operator's own that has all dimensions p_names as they are declared in the settings with which
-- `migrate` ran, and percentiles where they are asked for, and that the caller may read and sees all of; NULL: there is none.
SELECT chat_stats_install('chat_stats_rollup_for', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_for(p_names text[], p_percentiles boolean)
RETURNS text
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    found text;
BEGIN
    IF NOT COALESCE(has_table_privilege(to_regclass('stats_schema.chat_stats_rollups'), 'SELECT'), false)
       OR NOT stats_schema.chat_stats_rollup_ready() THEN
        RETURN NULL;
    END IF;
    SELECT r.name INTO found
    FROM stats_schema.chat_stats_rollups AS r
    CROSS JOIN LATERAL (
        SELECT
            -- (Of one that is not ready, asking for it may wait for a lock.)
            sum(CASE WHEN r.ready THEN pg_relation_size(t.relation) END) AS size,
            bool_and(COALESCE(
                has_table_privilege(t.relation, 'SELECT') AND NOT row_security_active(t.relation), false
            )) AS may_read
        FROM (
            SELECT to_regclass('stats_schema.' || n.name)::oid AS relation
            FROM (
{% for tier in own_tiers %}
                SELECT 'chat_stats_rollup_' || r.name || '_{{ tier.name }}' AS name
                UNION ALL
{% endfor %}
                SELECT 'chat_stats_purged_' || r.name
            ) AS n
        ) AS t
    ) AS tables
    WHERE r.ready AND r.name ~ '^[a-z][a-z0-9_]*$' AND (r.histograms OR NOT p_percentiles) AND tables.may_read
      AND r.columns = stats_schema.chat_stats_dimension_columns(r.sources)
      AND NOT EXISTS (
          SELECT FROM stats_schema.chat_stats_uncounted AS u
          WHERE u.relation = 'stats_schema.chat_stats_rollups'::regclass::oid
      )
      AND NOT EXISTS (
          SELECT FROM unnest(p_names) AS n (name)
          WHERE NOT EXISTS (
              SELECT FROM jsonb_array_elements(r.by) AS b (definition)
              WHERE CASE n.name
                  WHEN 'provider_id' THEN b.definition ->> 1 IN ('provider', 'model')
                  WHEN 'model_id' THEN b.definition ->> 1 IN ('provider', 'model')
{% for name, definition in asked.definitions %}
                  WHEN {{ name }} THEN b.definition = {{ definition }}::jsonb
{% endfor %}
              END
          )
      )
    ORDER BY tables.size, r.name
    LIMIT 1;
    RETURN found;
END
$function$;
$install$);
