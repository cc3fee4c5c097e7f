{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/requests.sql.j2' as requests %}
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
-- The changes that would make the rollup equal to the requests, as chat_stats_rollup_add() takes them, for the
-- buckets in [p_start, p_end) (the end 'infinity' is included; NULL and NULL: the requests without created_at):
-- what is in the requests and was purged of them, less what is in the rollup and in the deltas.
--
-- A text: as rows of a function, hundreds of thousands of requests would pass through a temporary file. The
-- requests are summed up first, by themselves and in their own types, since that is where nearly all rows are.
SELECT chat_stats_install('chat_stats_rollup_changes', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_changes(p_start timestamptz, p_end timestamptz)
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
        $changes$
        sorted AS MATERIALIZED (  -- once, in an order that serves the sums and the histograms
            SELECT
                r.model_id, stats_schema.chat_stats_day(r.bucket) AS day,
                stats_schema.chat_stats_slot(r.bucket) AS slot,
                stats_schema.chat_stats_bin(r.time_ms) AS bin,
{% for m in measures if m.by_status %}
                stats_schema.chat_stats_is_{{ m.kind }}(concat(r.status)) AS {{ m.name }},
{% endfor %}
                {% for column in columns %}r.{{ column.called }}{{ ', ' if not loop.last }}{% endfor %}

            FROM {{ requests.absent() }}
            CROSS JOIN LATERAL (
                SELECT
                    model_id, stats_schema.chat_stats_bucket(created_at::timestamptz) AS bucket, status,
                    {{ requests.numbers() | indent(20) }}
                FROM gateway_schema.chat_completion_requests
                WHERE model_id IS NOT NULL AND %1$s
            ) AS r
            ORDER BY 1, 2, 3, 4
        ), counted AS (
            SELECT
                r.model_id, r.day, r.slot,
                {{ sums() | indent(16) }}
            FROM sorted AS r
            GROUP BY r.model_id, r.day, r.slot
        ), kept AS (
            SELECT
                k.model_id, k.day, k.slot,
                {{ each('sum(k.{name}){cast} AS {name}', 16) }}
            FROM (
                SELECT
                    t.model_id, t.day, s.slot, {{ each('s.{name}') }}
                FROM stats_schema.{{ rollup('slots').table }} AS t
                CROSS JOIN LATERAL {{ kept.slots_of('t') }}
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    t.model_id, t.day, s.slot, {{ each('-s.{name}') }}
                FROM stats_schema.chat_stats_purged AS t
                CROSS JOIN LATERAL {{ kept.slots_of('t') }}
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    d.model_id, stats_schema.chat_stats_day(d.bucket), stats_schema.chat_stats_slot(d.bucket),
                    {{ each('d.{name}') }}
                FROM stats_schema.chat_stats_deltas AS d
                WHERE %5$s
            ) AS k
            GROUP BY 1, 2, 3
        ), slot_sums AS MATERIALIZED (
            SELECT *
            FROM (
                SELECT
                    model_id, day, slot,
                    {{ each('COALESCE(c.{name}, 0) - COALESCE(k.{name}, 0) AS {name}', 20) }}
                FROM counted AS c
                FULL JOIN kept AS k USING (model_id, day, slot)
            ) AS s
            WHERE ({{ each('{name}') }}) <> ({{ kept.zeros() }})
        ), cells AS MATERIALIZED (
            SELECT *
            FROM (
                SELECT model_id, day, slot, bin, COALESCE(c.n, 0) - COALESCE(k.n, 0) AS n
                FROM (
                    SELECT r.model_id, r.day, r.slot, r.bin, count(*) AS n
                    FROM sorted AS r
                    WHERE r.bin IS NOT NULL
                    GROUP BY r.model_id, r.day, r.slot, r.bin
                ) AS c
                FULL JOIN (
                    SELECT b.model_id, b.day, b.slot, b.bin, sum(b.n)::bigint AS n
                    FROM (
                        SELECT t.model_id, t.day, s.slot, s.bin, s.n
                        FROM stats_schema.{{ rollup('slots').table }} AS t
                        CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                        WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                        UNION ALL
                        SELECT t.model_id, t.day, s.slot, s.bin, -s.n
                        FROM stats_schema.chat_stats_purged AS t
                        CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                        WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                        UNION ALL
                        SELECT
                            d.model_id, stats_schema.chat_stats_day(d.bucket), stats_schema.chat_stats_slot(d.bucket),
                            stats_schema.chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END),
                            d.timed
                        FROM stats_schema.chat_stats_deltas AS d
                        WHERE d.times IS NULL AND d.timed <> 0 AND %5$s
                        UNION ALL
                        SELECT
                            d.model_id, stats_schema.chat_stats_day(d.bucket), stats_schema.chat_stats_slot(d.bucket),
                            stats_schema.chat_stats_bin(u.time_ms), sign(d.timed)::bigint
                        FROM stats_schema.chat_stats_deltas AS d
                        CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                        WHERE d.times IS NOT NULL AND %5$s
                    ) AS b
                    GROUP BY b.model_id, b.day, b.slot, b.bin
                ) AS k USING (model_id, day, slot, bin)
            ) AS b
            WHERE b.n <> 0
        ), differing AS (
            SELECT 1 FROM slot_sums
            UNION ALL
            SELECT 1
            FROM (
                SELECT DISTINCT c.model_id, c.day, c.slot
                FROM cells AS c
                WHERE NOT EXISTS (
                    SELECT FROM slot_sums AS s
                    WHERE s.model_id = c.model_id AND s.day = c.day AND s.slot = c.slot
                )
            ) AS only_in_the_histogram
        )
        $changes$,
        format(in_range, 'created_at'),
        -- (Where the arrays were made of unequal length, there are numbers without a slot: they are to go.)
        format(in_range, 'stats_schema.chat_stats_bucket_at(t.day, COALESCE(s.slot, 0::smallint))'),
        stats_schema.chat_stats_day(p_start), stats_schema.chat_stats_day(p_end), format(in_range, 'd.bucket')
    );
END
$function$;
$install$);
