{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/compact.sql.j2' as compact %}
-- Adds changes to slots, days, months and lifetime of all rollups, in one statement: each reader sees each of them once,
-- before or after. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that has for each rollup `.._slot_sums` (the changes of the sums in a slot of
-- a day: one row for each value of its dimensions, none that is all zeros) and `.._cells` (those of the histogram: also
-- by bin, with the change `n` of the count, not 0). A text, so that the sources of changes (deltas that are moved,
-- differences that are repaired) share what becomes of them, and each is planned for its own size.
--
-- With p_only, to that rollup alone: p_changes then has nothing of the others.
--
-- In a fold (p_counted is `moved`) counts are added up as floating-point numbers, which are exact up to 2^53 and cost a third
-- of bigint. A repair also meets numbers that damage made, beyond that: its sums are of bigint.
--
-- The caller holds the lock that keeps two of these apart: see chat_stats_fold() and chat_stats_rollup_repair().
SELECT chat_stats_install('chat_stats_rollup_add', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_add(p_changes text, p_counted text, p_only text)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    statement text := '';
    counted bigint;
BEGIN
{% for rollup in rollups %}
    statement := statement || CASE WHEN p_only IS NULL OR p_only = '{{ rollup.name }}' THEN $statement$
{% set dims = kept.dims(rollup) %}
    , {{ rollup.name }}_changes AS MATERIALIZED (
        SELECT
            {{ dims }}day,
            {{ each('COALESCE(min({name}), 0) AS {name}', 12) }},
            COALESCE(min(slots), '{}') AS slots,
            {{ each("COALESCE(min(slot_{name}), '{}') AS slot_{name}", 12) }},
            COALESCE(min(bin_slots), '{}') AS bin_slots, COALESCE(min(bins), '{}') AS bins,
            COALESCE(min(counts), '{}') AS counts
{%- if not rollup.built_in %},
            COALESCE(min(timed_slots), '{}') AS timed_slots, COALESCE(min(timed_bins), '{}') AS timed_bins
{% else %}

{% endif %}
        FROM (
            -- The arrays of a row are parallel, since one pass makes them from the same rows; in the order of the slots,
            -- since the rows come in it.
            SELECT
                {{ dims }}day,
{% if rollup.built_in %}
                {{ each('sum({name}{float}){cast} AS {name}', 16) }},
                array_agg(slot) AS slots,
                {{ each('array_agg({name}) AS slot_{name}', 16) }},
{% else %}
                {{ compact.gathered_slots('s') | indent(16) }},
{% endif %}
                NULL::smallint[] AS bin_slots, NULL::smallint[] AS bins, NULL::bigint[] AS counts
            FROM (SELECT * FROM {{ rollup.name }}_slot_sums ORDER BY {{ dims }}day, slot) AS s
            GROUP BY {{ dims }}day
            UNION ALL
            SELECT
                {{ dims }}day, {{ each('NULL::{type}') }},
                NULL::smallint[], {{ each('NULL::{type}[]') }},
                {{ 'NULL::smallint[], NULL::smallint[],' if not rollup.built_in }}
                array_agg(slot), array_agg(bin), array_agg(n)
            FROM (SELECT * FROM {{ rollup.name }}_cells ORDER BY {{ dims }}day, {{ 'slot' if rollup.built_in else 'bin' }}) AS c
            GROUP BY {{ dims }}day
        ) AS u
        GROUP BY {{ dims }}day
    ), {{ rollup.name }}_slots AS (
{% if rollup.built_in %}
        INSERT INTO stats_schema.{{ rollup.tables.slots }} AS t (
            {{ dims }}day, {{ kept.columns_of_slots() }}
        )
        SELECT {{ dims }}day, {{ kept.columns_of_slots() }}
        FROM {{ rollup.name }}_changes
        ON CONFLICT ({{ dims }}day) DO UPDATE SET
            {{ kept.slots_added() | indent(12) }}
{% else %}
        INSERT INTO stats_schema.{{ rollup.tables.slots }} AS t (
            {{ dims }}day, {{ compact.columns() }}
        )
        SELECT
            {{ dims }}day,
            {{ compact.packed('a') | indent(12) }}
        FROM (
            {{ compact.with_usual(rollup, 'c') | indent(12) }}
            FROM {{ rollup.name }}_changes AS c
            OFFSET 0  -- so that it is told once
        ) AS a
        ON CONFLICT ({{ dims }}day) DO UPDATE SET
            {{ compact.slots_added(rollup) | indent(12) }}
{% endif %}
        RETURNING true
    )
{% if rollup.built_in and 'days' not in rollup.binned %}
    , {{ rollup.name }}_days AS (
        INSERT INTO stats_schema.{{ rollup.tables.days }} AS t (
            {{ dims }}day, {{ each('{name}') }}
        )
        SELECT {{ dims }}day, {{ each('{name}') }}
        FROM {{ rollup.name }}_changes
        ON CONFLICT ({{ dims }}day) DO UPDATE SET
            {{ each('{name} = t.{name} + excluded.{name}', 12) }}
        RETURNING true
    )
{% endif %}
{% for tier in rollup.tiers if tier.name in rollup.binned or tier.name == 'lifetime' %}
{% set made_of = '_' ~ tier.made_of if tier.made_of in rollup.binned else '' %}
{% set key = kept.key(rollup, tier) %}
{% if tier.name not in rollup.binned %}
    , {{ rollup.name }}_{{ tier.name }}_changes AS MATERIALIZED (
        SELECT
            {{ dims }}{{ tier.of_day }} AS {{ tier.time }},
            {{ each('sum({name}{float}){cast} AS {name}', 12) }}
        FROM {{ rollup.name }}{{ made_of }}_changes
        GROUP BY {{ key }}
    )
{%- else %}
{% set one_alone %}
(SELECT count(DISTINCT {{ 'day' if tier.made_of == 'days' else 'month' }}) FROM {{ rollup.name }}{{ made_of }}_changes) <= 1
{%- endset %}
    , {{ rollup.name }}_{{ tier.name }}_cells AS MATERIALIZED (
        SELECT {{ dims }}{{ tier.of_day }} AS {{ tier.time }}, bin, sum(n::double precision)::bigint AS n
        FROM {{ rollup.name }}{{ made_of }}_cells
        {{ 'WHERE NOT ' ~ one_alone if made_of }}
        GROUP BY {{ key }}, bin
        HAVING sum(n::double precision) <> 0
    ), {{ rollup.name }}_{{ tier.name }}_changes AS MATERIALIZED (
        SELECT
            {{ key }},
            {{ each('COALESCE(min({name}), 0) AS {name}', 12) }},
            COALESCE(min(bins), '{}') AS bins, COALESCE(min(counts), '{}') AS counts
        FROM (
            SELECT
                {{ dims }}{{ tier.of_day }} AS {{ tier.time }},
                {{ each('sum({name}{float}){cast} AS {name}', 16) }},
                NULL::smallint[] AS bins, NULL::bigint[] AS counts
            FROM {{ rollup.name }}{{ made_of }}_changes
            GROUP BY {{ key }}
            UNION ALL
            SELECT
                {{ key }}, {{ each('NULL::{type}') }},
                array_agg(bin ORDER BY bin), array_agg(n ORDER BY bin)
            FROM {{ rollup.name }}_{{ tier.name }}_cells
            GROUP BY {{ key }}
{% if made_of %}
            UNION ALL
            -- Nearly all changes are of one day, or one month: its histograms are there already.
            SELECT {{ dims }}{{ tier.of_day }}, {{ each('NULL::{type}') }}, bins, counts
            FROM {{ rollup.name }}{{ made_of }}_changes
            WHERE {{ one_alone }}
{% endif %}
        ) AS u
        GROUP BY {{ key }}
    )
{%- endif %}, {{ rollup.name }}_{{ tier.name }} AS (
        INSERT INTO stats_schema.{{ rollup.tables[tier.name] }} AS t (
            {{ key }}, {{ kept.columns(rollup, tier) }}
        )
        SELECT {{ key }}, {{ kept.columns(rollup, tier) if rollup.built_in else compact.packed_tier(rollup, tier, 'a') }}
        FROM {{ rollup.name }}_{{ tier.name }}_changes AS a
        ORDER BY {{ key }}  -- all that add to the same rows do so in the same order: no deadlock
        ON CONFLICT ({{ key }}) DO UPDATE SET
{% if not rollup.built_in %}
            {{ compact.tier_added(rollup, tier) | indent(12) }}
{% else %}
            {{ each('{name} = t.{name} + excluded.{name}', 12) }},
            (bins, counts) = (
                SELECT COALESCE(array_agg(h.bin), '{}'), COALESCE(array_agg(h.n), '{}')
                FROM (
                    SELECT b.bin, sum(b.n::double precision)::bigint AS n
                    FROM (
                        SELECT unnest(t.bins), unnest(t.counts)
                        UNION ALL
                        SELECT unnest(excluded.bins), unnest(excluded.counts)
                    ) AS b (bin, n)
                    GROUP BY b.bin
                    HAVING sum(b.n::double precision) <> 0
                    ORDER BY b.bin
                ) AS h
            )
{% endif %}
    )
{% endfor %}
    $statement$ ELSE '' END;
{% endfor %}
    statement := statement || $statement$
    SELECT count(*) FROM $statement$ || quote_ident(p_counted) || $statement$
    WHERE true
    $statement$
    -- What repairs of other days share is locked last: until here they run side by side.
{% for rollup in rollups %}
    || CASE WHEN p_only IS NULL OR p_only = '{{ rollup.name }}' THEN $statement$
      AND (SELECT count(*) FROM {{ rollup.name }}_slots) >= 0
{% if rollup.built_in and 'days' not in rollup.binned %}
      AND (SELECT count(*) FROM {{ rollup.name }}_days) >= 0
{% endif %}
      AND (SELECT count(*) FROM {{ rollup.name }}_{{ rollup.tiers[-1].name }}_changes) >= 0
    $statement$ ELSE '' END
{% endfor %}
    ;
    IF p_counted <> 'moved' THEN
        statement := replace(statement, '::double precision', '');
    END IF;
    EXECUTE 'WITH ' || p_changes || statement INTO counted;
    RETURN counted;
END
$function$;
$install$);
