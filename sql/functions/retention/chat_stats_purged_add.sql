{% import 'macros/rollups.sql.j2' as kept %}
-- Adds to what is kept of purged requests, for all rollups in one statement. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that has `.._changes` for each rollup that no other one has all dimensions of:
-- its dimensions, bucket, bin, the measures, and the count `n` in that bin. The caller holds the lock of the rollup's upkeep.
SELECT chat_stats_install('chat_stats_purged_add', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purged_add(p_changes text, p_counted text)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    counted bigint;
BEGIN
    EXECUTE 'WITH ' || p_changes || $statement$
{% for rollup in rollups %}
{% set from = finer(rollup) %}
{% set dims = kept.dims(rollup) %}
    , {{ rollup.name }}_sums AS MATERIALIZED (
        SELECT
            {{ kept.dims(rollup, 'c.') }}{{ kept.day_and_slot('c', of_bucket=not from) }}, {{ 'c.bin' if rollup.histograms else 'NULL::smallint AS bin' }},
            {{ each('sum(c.{name}){cast} AS {name}', 12) }},
            {{ 'sum(c.n)::bigint' if rollup.histograms else '0::bigint' }} AS n
        FROM {{ from.name ~ '_sums' if from else rollup.name ~ '_changes' }} AS c
        GROUP BY {{ kept.dims(rollup, 'c.') }}{{ 'c.day, c.slot' if from else 'c.bucket' }}{{ ', c.bin' if rollup.histograms }}
    ), {{ rollup.name }}_kept AS (
        INSERT INTO stats_schema.{{ rollup.purged }} AS t (
            {{ dims }}day, {{ kept.columns_of_slots() }}
        )
        SELECT
            {{ dims }}day,
            COALESCE(min(slots), '{}'), {{ each("COALESCE(min(slot_{name}), '{}')") }},
            COALESCE(min(bin_slots), '{}'), COALESCE(min(bins), '{}'), COALESCE(min(counts), '{}')
        FROM (
            SELECT
                {{ dims }}day, array_agg(slot) AS slots,
                {{ each('array_agg({name}) AS slot_{name}', 16) }},
                NULL::smallint[] AS bin_slots, NULL::smallint[] AS bins, NULL::bigint[] AS counts
            FROM (
                SELECT
                    {{ dims }}day, slot,
                    {{ each('sum({name}){cast} AS {name}', 20) }}
                FROM {{ rollup.name }}_sums
                GROUP BY {{ dims }}day, slot
            ) AS s
            GROUP BY {{ dims }}day
            UNION ALL
            SELECT
                {{ dims }}day, NULL::smallint[], {{ each('NULL::{type}[]') }},
                array_agg(slot), array_agg(bin), array_agg(n)
            FROM {{ rollup.name }}_sums
            WHERE n <> 0
            GROUP BY {{ dims }}day
        ) AS u
        GROUP BY {{ dims }}day
        ON CONFLICT ({{ dims }}day) DO UPDATE SET
            {{ kept.slots_added() | indent(12) }}
    )
{% endfor %}
    SELECT count(*) FROM $statement$ || quote_ident(p_counted)
    INTO counted;
    RETURN counted;
END
$function$;
$install$);
