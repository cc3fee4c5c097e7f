{% import 'macros/rollups.sql.j2' as kept %}
-- By how much the rollups differ from the requests: a row for each place (dimensions and bucket) in [p_start, p_end) where
-- one does, with what chat_stats_rollup_repair() would add; none where one by further dimensions differs, too. The end
-- 'infinity' is included. NULL and NULL: requests without created_at. `further_values` are those of the dimensions that
-- the built-in rollups do not know.
SELECT chat_stats_claim_function('chat_stats_rollup_differences');

-- The one before had no such values. Registering the new one drops it.
SELECT chat_stats_run($run$
DO $former$
DECLARE
    former record;
BEGIN
    FOR former IN
        SELECT p.oid::regprocedure AS function, p.oid
        FROM pg_proc AS p
        WHERE p.proname = 'chat_stats_rollup_differences' AND p.pronamespace::regnamespace || '.' = 'stats_schema.'
          AND strpos(pg_get_function_result(p.oid), 'further_values') = 0
    LOOP
        EXECUTE format(
            'ALTER FUNCTION %s RENAME TO %I', former.function, 'chat_stats_rollup_differences_former_' || former.oid
        );
    END LOOP;
END
$former$;
$run$);

SELECT chat_stats_install('chat_stats_rollup_differences', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_differences(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    rollup text,
{% for name in built_in_dimensions %}
    {{ name }} stats_schema.chat_stats_deltas.{{ name }}%TYPE,
{% endfor %}
    further_values text[],
    bucket timestamptz,
    {{ each('{name} {type}', 4) }},
    bins smallint[],
    counts bigint[]
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY EXECUTE 'WITH ' || stats_schema.chat_stats_rollup_changes(p_start, p_end, NULL::text) || $differences$
{% for rollup in rollups %}
        SELECT
            '{{ rollup.name }}'::text,
{% for name in built_in_dimensions %}
            {{ name if name in rollup.dimensions else '(NULL::stats_schema.chat_stats_deltas).' ~ name }},
{% endfor %}
            ARRAY[{{ rollup.further | join(', ') }}]::text[],
            stats_schema.chat_stats_bucket_at(day, slot),
            {{ each('COALESCE(min({name}), 0)', 12) }},
            min(bins), min(counts)
        FROM (
            SELECT
                {{ kept.dims(rollup) }}day, slot, {{ each('{name}') }},
                NULL::smallint[] AS bins, NULL::bigint[] AS counts, false AS finer_too
            FROM {{ rollup.name }}_slot_sums
            UNION ALL
            SELECT
                {{ kept.dims(rollup) }}day, slot, {{ each('NULL::{type}') }},
                array_agg(bin), array_agg(n), false
            FROM {{ rollup.name }}_cells
            GROUP BY {{ kept.dims(rollup) }}day, slot
{% if finer(rollup) %}
            UNION ALL
            SELECT
                {{ kept.dims(rollup) }}day, slot, {{ each('NULL::{type}') }},
                NULL, NULL, true
            FROM {{ kept.differing(rollup, finer(rollup)) }} AS f
{% endif %}
        ) AS u
        GROUP BY {{ kept.dims(rollup) }}day, slot
        HAVING NOT bool_or(finer_too)
{{ '        UNION ALL\n' if not loop.last -}}
{% endfor %}
    $differences$;
END
$function$;
$install$);

-- As chat_stats_rollup_repair(), and for the same reasons.
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET enable_hashagg = off;
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET jit = off;
