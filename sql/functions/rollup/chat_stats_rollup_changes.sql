{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/compact.sql.j2' as compact %}
{# The measures of the rows that `sorted` has. #}
{% macro sums() -%}
{% for m in measures %}
{% if m.by_status %}
count(*) FILTER (WHERE r.{{ m.name }})
{%- elif m.kind == 'sum' %}
COALESCE(sum(r.{{ m.column.called }}), 0)::numeric
{%- elif m.kind == 'count' %}
count(r.{{ m.column.called }})
{%- else %}
count(*)
{%- endif %}
 AS {{ m.name }}{{ ',\n' if not loop.last -}}
{% endfor %}
{%- endmacro %}
{# The changes of the rollups `of`, which have the dimensions `among`. `shards`: on Citus. #}
{% macro changes(of, among, shards=false) -%}
$changes$
{% if shards %}
        sorted AS MATERIALIZED (
            SELECT {{ kept.all_dims('r.', among=among) }}{{ kept.day_and_slot('r') }}, r.bin, {{ each('r.{name}') }}, r.n
            FROM stats_schema.chat_stats_shard_changes(%6$L::timestamptz, %7$L::timestamptz) AS r
        )
{% else %}
        sorted AS MATERIALIZED (  -- once, in an order that serves the sums and the histograms
            SELECT
                {{ kept.all_dims('r.', among=among) }}{{ kept.day_and_slot('r') }},
                stats_schema.chat_stats_bin(r.time_ms) AS bin,
{% for m in measures if m.by_status %}
                stats_schema.chat_stats_is_{{ m.kind }}(concat(r.status)) AS {{ m.name }},
{% endfor %}
                {% for column in columns %}r.{{ column.called }}{{ ', ' if not loop.last }}{% endfor %}

            FROM {{ requests.absent() }}
            CROSS JOIN LATERAL (
                SELECT
                    {{ kept.read_dims(among=among) | indent(20) }}stats_schema.chat_stats_bucket(created_at::timestamptz) AS bucket, status,
                    {{ requests.numbers() | indent(20) }}
                FROM gateway_schema.chat_completion_requests
                WHERE %1$s
            ) AS r
            ORDER BY {{ kept.all_dims(among=among) }}day, slot, bin
        )
{% endif %}
{% for rollup in of %}
{% set from = finer(rollup) %}
{% set name = rollup.name %}
        , {{ name }}_counted AS MATERIALIZED (
            SELECT
                {{ kept.dims(rollup, 'r.') }}r.day, r.slot,
                {{ each('sum(r.{name}){cast} AS {name}', 16) if from or shards else sums() | indent(16) }}
            FROM {{ from.name ~ '_counted' if from else 'sorted' }} AS r
            GROUP BY {{ kept.dims(rollup, 'r.') }}r.day, r.slot
        ), {{ name }}_kept ({{ kept.dims(rollup) }}day, slot, {{ each('{name}') }}) AS NOT MATERIALIZED (
            SELECT * FROM (
                SELECT
                    {{ kept.dims(rollup, 't.') }}t.day, s.slot, {{ each('-s.{name}') }}
                FROM stats_schema.{{ rollup.tables.slots }} AS t
                CROSS JOIN LATERAL {{ kept.slots_of('t') if rollup.built_in else compact.slots_of('t') ~ ' AS s' }}
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    {{ kept.dims(rollup, 't.') }}t.day, s.slot, {{ each('s.{name}') }}
                FROM stats_schema.{{ rollup.purged }} AS t
                CROSS JOIN LATERAL {{ kept.slots_of('t') }}
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d') }}, {{ each('d.{name}') }}
                FROM stats_schema.chat_stats_kept AS d
                WHERE %5$s
                UNION ALL
                SELECT
                    {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d') }}, {{ each('-d.{name}') }}
                FROM stats_schema.chat_stats_deltas AS d
                WHERE %5$s
            ) AS k
        ), {{ name }}_counted_cells AS MATERIALIZED (
            SELECT {{ kept.dims(rollup, 'r.') }}r.day, r.slot, r.bin, {{ 'sum(r.n)::bigint' if from or shards else 'count(*)' }} AS n
            FROM {{ from.name ~ '_counted_cells' if from else 'sorted' }} AS r
            WHERE r.bin IS NOT NULL{{ ' AND false' if not rollup.histograms }}
            GROUP BY {{ kept.dims(rollup, 'r.') }}r.day, r.slot, r.bin
        ), {{ name }}_kept_cells ({{ kept.dims(rollup) }}day, slot, bin, n) AS NOT MATERIALIZED (
            SELECT * FROM (
                SELECT {{ kept.dims(rollup, 't.') }}t.day, s.slot, s.bin, -s.n
                FROM stats_schema.{{ rollup.tables.slots }} AS t
                CROSS JOIN LATERAL {{ 'unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)' if rollup.built_in else compact.cells_of('t') ~ ' AS s' }}
                WHERE {{ 'false AND ' if not rollup.histograms }}t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT {{ kept.dims(rollup, 't.') }}t.day, s.slot, s.bin, s.n
                FROM stats_schema.{{ rollup.purged }} AS t
                CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d') }}, stats_schema.chat_stats_bin(d.time_ms), d.timed
                FROM stats_schema.chat_stats_kept AS d
                WHERE d.timed <> 0 AND {{ 'false AND ' if not rollup.histograms }}%5$s
                UNION ALL
                SELECT
                    {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d') }},
                    stats_schema.chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END),
                    -d.timed
                FROM stats_schema.chat_stats_deltas AS d
                WHERE d.times IS NULL AND d.timed <> 0 AND {{ 'false AND ' if not rollup.histograms }}%5$s
                UNION ALL
                SELECT
                    {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d') }},
                    stats_schema.chat_stats_bin(u.time_ms), -sign(d.timed)::bigint
                FROM stats_schema.chat_stats_deltas AS d
                CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                WHERE d.times IS NOT NULL AND {{ 'false AND ' if not rollup.histograms }}%5$s
            ) AS b
        )
{% endfor %}
        -- In a backfill there is nothing but the requests, nearly always. What was counted is the change then, and need
        -- not be grouped again. (On Citus it may be nothing at all: what the nodes have beside the requests is off it.)
        , beside AS MATERIALIZED (
            SELECT {{ 'true OR ' if shards }}{% for rollup in of %}EXISTS (SELECT FROM {{ rollup.name }}_kept) OR EXISTS (SELECT FROM {{ rollup.name }}_kept_cells){{ ' OR ' if not loop.last }}{% endfor %} AS anything
        )
{% for rollup in of %}
{% set name = rollup.name %}
        , {{ name }}_slot_sums AS MATERIALIZED (
            SELECT {{ kept.dims(rollup) }}day, slot, {{ each('{name}') }}
            FROM {{ name }}_counted
            WHERE NOT (SELECT anything FROM beside)
            UNION ALL
            SELECT
                {{ kept.dims(rollup, 'k.') }}k.day, k.slot,
                {{ each('sum(k.{name}){cast} AS {name}', 16) }}
            FROM (
                SELECT {{ kept.dims(rollup) }}day, slot, {{ each('{name}') }} FROM {{ name }}_counted
                UNION ALL
                SELECT * FROM {{ name }}_kept
            ) AS k
            WHERE (SELECT anything FROM beside)
            GROUP BY {{ kept.dims(rollup, 'k.') }}k.day, k.slot
            HAVING {{ kept.changed('k') }}
        ), {{ name }}_cells AS MATERIALIZED (
            SELECT {{ kept.dims(rollup) }}day, slot, bin, n
            FROM {{ name }}_counted_cells
            WHERE NOT (SELECT anything FROM beside)
            UNION ALL
            SELECT {{ kept.dims(rollup, 'b.') }}b.day, b.slot, b.bin, sum(b.n)::bigint AS n
            FROM (
                SELECT {{ kept.dims(rollup) }}day, slot, bin, n FROM {{ name }}_counted_cells
                UNION ALL
                SELECT * FROM {{ name }}_kept_cells
            ) AS b
            WHERE (SELECT anything FROM beside)
            GROUP BY {{ kept.dims(rollup, 'b.') }}b.day, b.slot, b.bin
            HAVING sum(b.n) <> 0
        )
{% endfor %}
        , differing AS (
{% for rollup in of %}
{% if not finer(rollup) %}
            SELECT FROM {{ rollup.name }}_counted WHERE NOT (SELECT anything FROM beside)
            UNION ALL
{% endif %}
            SELECT FROM (
                {{ kept.differing(rollup, rollup) | indent(16) }}
{% if finer(rollup) %}
                EXCEPT
                {{ kept.differing(rollup, finer(rollup)) | indent(16) }}
{% endif %}
            ) AS places
            WHERE (SELECT anything FROM beside)
{{ '            UNION ALL\n' if not loop.last -}}
{% endfor %}
        )
        $changes$
{%- endmacro %}
-- The changes that would make the rollups equal to the requests, as chat_stats_rollup_add() takes them, for the
-- buckets in [p_start, p_end) (the end 'infinity' is included; NULL and NULL: the requests without created_at):
-- what is in the requests and was purged of them, less what is in the rollup and in the deltas. `differing` has a row for
-- each place where a rollup differs, but none where one by further dimensions differs, too.
--
-- With p_only, of that one rollup of the operator's own alone: of the others there is no word in the text.
--
-- A text: as rows of a function, hundreds of thousands of requests would pass through a temporary file. The
-- requests are summed up first, by themselves and in their own types, since that is where nearly all rows are.
SELECT chat_stats_install('chat_stats_rollup_changes', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_changes(p_start timestamptz, p_end timestamptz, p_only text)
RETURNS text
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    in_range text := CASE
        WHEN p_start IS NULL THEN '%1$s IS NULL'
        WHEN p_end = 'infinity' THEN format('%%1$s >= %L::timestamptz', p_start)
        ELSE format('%%1$s >= %L::timestamptz AND %%1$s < %L::timestamptz', p_start, p_end)
    END;
BEGIN
    RETURN format(
        CASE
        WHEN p_only IS NULL AND stats_schema.chat_stats_on_shards() THEN
        {{ changes(rollups, built_in_dimensions, shards=true) }}
        WHEN p_only IS NULL THEN
        {{ changes(rollups, dimensions) }}
{% for rollup in own_rollups %}
        WHEN p_only = '{{ rollup.name }}' THEN
        {{ changes([rollup], rollup.dimensions) }}
{% endfor %}
        END,
        format(in_range, 'created_at'),
        -- (Where the arrays were made of unequal length, there are numbers without a slot: they are to go.)
        format(in_range, 'stats_schema.chat_stats_bucket_at(t.day, COALESCE(s.slot, 0::smallint))'),
        stats_schema.chat_stats_day(p_start), stats_schema.chat_stats_day(p_end), format(in_range, 'd.bucket'), p_start, p_end
    );
END
$function$;
$install$);
