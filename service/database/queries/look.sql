{% import 'macros/values.sql.j2' as values %}
{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/requests.sql.j2' as requests with context %}
-- What to know before anything is computed, from the catalogue alone: whether the requests have the optional column
-- cost_usd, of a type that can be summed; whether there may be sums of requests that were purged, without needing a
-- function or a right; whether there is the table of the rollups that the operator added; which functions of the names $1
-- there are, once and of ours, that our role may execute; and the columns of the requests, each with its type.
SELECT
    {{ values.has_cost("'gateway_schema.chat_completion_requests'::regclass") | indent(4) }} AS has_cost,
    {{ kept.has_purged() | indent(4) }}
        AND NOT row_security_active('gateway_schema.chat_completion_requests') AS has_purged,
    to_regclass('stats_schema.chat_stats_rollups') IS NOT NULL AS lists_rollups,
    ARRAY(
        SELECT f.name
        FROM unnest($1::text[]) AS n (name)
        CROSS JOIN LATERAL (
            -- NULL where there is none, or several.
            SELECT n.name, to_regproc('stats_schema.'::text || n.name)::oid AS function
        ) AS f
        WHERE has_function_privilege(f.function, 'EXECUTE'::text)
          AND obj_description(f.function, 'pg_proc'::name) LIKE 'chat-stats;%'::text
    ) AS functions,
    ARRAY(
        SELECT ARRAY[c.name, c.type, c.base, c.category, c.compared_by]
        FROM (
            {{ requests.typed_columns() | indent(12) }}
        ) AS c
    ) AS columns
