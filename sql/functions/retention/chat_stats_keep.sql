{% import 'macros/rollups.sql.j2' as kept %}
{# A dimension of a row of chat_stats_rollup_differences(). #}
{% macro value_of(rollup, name, of) -%}
{{ of }}.{{ 'further_values[' ~ (rollup.further.index(name) + 1) ~ ']' if name in rollup.further else name }}
{%- endmacro %}
{% macro values_of(rollup, of) -%}
{% for name in rollup.dimensions %}{{ value_of(rollup, name, of) }} AS {{ name }}, {% endfor %}
{%- endmacro %}
-- Corrects what is kept of purged requests in [p_start, p_end), so that the rollup is right there, after requests went
-- with a partition that was detached or dropped (p_gone), or came back with one: no trigger counted them. Where the
-- requests differ the other way round, that is for chat_stats_rollup_repair(). Returns how many models' buckets it
-- kept or gave back. Exact beside writers, as chat_stats_rollup_repair() is.
SELECT chat_stats_claim_function('chat_stats_keep');

SELECT chat_stats_install('chat_stats_keep', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_keep(p_start timestamptz, p_end timestamptz, p_gone boolean)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    changed bigint;
BEGIN
    PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE;  -- the lock of chat_stats_fold()
    LOCK TABLE gateway_schema.chat_completion_requests IN ACCESS SHARE MODE;
    changed := stats_schema.chat_stats_purged_add(
        format(
            $changes$
                concerned AS MATERIALIZED (
{% for rollup in rollups if not finer(rollup) %}
                    SELECT *
                    FROM stats_schema.chat_stats_rollup_differences(%1$L::timestamptz, %2$L::timestamptz) AS d
                    WHERE d.rollup = '{{ rollup.name }}' AND CASE WHEN %3$L THEN d.requests < 0
                                                    ELSE d.requests > 0 AND d.requests <= (
                        SELECT sum(k.requests)
                        FROM stats_schema.{{ rollup.purged }} AS t
                        CROSS JOIN LATERAL unnest(t.slots, t.slot_requests) AS k (slot, requests)
                        WHERE t.day = stats_schema.chat_stats_day(d.bucket)
                          AND k.slot = stats_schema.chat_stats_slot(d.bucket)
{% for name in rollup.dimensions %}
                          AND t.{{ name }} IS NOT DISTINCT FROM {{ value_of(rollup, name, 'd') }}
{% endfor %}
                    ) END
{{ '                    UNION ALL\n' if not loop.last -}}
{% endfor %}
                )
{% for rollup in rollups if not finer(rollup) %}
                , {{ rollup.name }}_changes AS (
                    SELECT
                        {{ values_of(rollup, 'c') }}c.bucket, NULL::smallint AS bin,
                        {{ each('-c.{name} AS {name}', 24) }}, 0 AS n
                    FROM concerned AS c
                    WHERE c.rollup = '{{ rollup.name }}'
                    UNION ALL
                    SELECT {{ values_of(rollup, 'c') }}c.bucket, u.bin, {{ kept.zeros() }}, -u.n
                    FROM concerned AS c CROSS JOIN LATERAL unnest(c.bins, c.counts) AS u (bin, n)
                    WHERE c.rollup = '{{ rollup.name }}'
                )
{% endfor %}
            $changes$,
            p_start, p_end, p_gone
        ),
        'concerned'
    );
    -- So that a loss of what is kept is noticed, as after a purge; once all is given back, there is nothing to lose.
    UPDATE stats_schema.chat_stats_rollup_state AS s
    SET purged_before = CASE
        WHEN p_gone THEN GREATEST(s.purged_before, COALESCE(p_end, 'infinity'))
        WHEN EXISTS (SELECT FROM stats_schema.{{ rollup('total').purged }} AS t WHERE cardinality(t.slots) > 0)
        THEN s.purged_before
    END
    WHERE changed > 0;
    RETURN changed;
END
$function$;
$install$);

ALTER FUNCTION chat_stats_keep(timestamptz, timestamptz, boolean) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_keep(timestamptz, timestamptz, boolean) SET jit = off;
