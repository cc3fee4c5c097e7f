{% import 'macros/values.sql.j2' as values with context %}
{% import 'macros/requests.sql.j2' as requests with context %}
{% import 'macros/figures.sql.j2' as figures %}
{% if own %}
{% import 'macros/own_reading.sql.j2' as own_rollup with context %}
{% import 'macros/own_rows.sql.j2' as own_rows with context %}
{% endif %}
{% set literal_interval = "'" ~ interval ~ "'::text" %}
{# Of all requests there are sums and histograms at hand; with our functions, percentiles are read from histograms. #}
{% set of_all = functions and not models %}
{% set by_histograms = functions or own %}
{# The lowest percentile that is asked for, among those of which there are columns. #}
{% set ranks_asked = [] %}
{% for rank in (50, 90, 95, 99) if 'p' ~ rank ~ '_processing_time_ms' in asked %}{% set _ = ranks_asked.append((50, 90, 95, 99).index(rank) + 1) %}{% endfor %}
{% set lowest = (ranks_asked or [1])[0] %}
{# Whether each histogram that a function returns is that of one group. #}
{% set of_members = functions and models and (members == 'model') == ('c.model' in grouping | map(attribute='resolved')) and grouping %}
{% set as_kept = (of_all or of_members) and not by_percentile %}
{# Whether histograms of most intervals are each in one row of a rollup. #}
{% set of_single_rows = own and own_rollup.of_single_rows %}
{# Whether each group is one row of a rollup, beside changes. #}
{% set as_rows = own and own.as_rows %}
{# The sums of whole groups: without intervals each has one row already. #}
{% set groups = 'groups' if interval else 'members' %}
{% import 'macros/asked.sql.j2' as terms with context %}
-- Figures of groups of requests by any dimensions: the first groups in an order (or those that are wanted), in a series
-- each with all its intervals; the others together; and all together. `service.compute.statement` says what is asked.
WITH {% if models %}catalogue AS MATERIALIZED (
    SELECT m.id AS model_id, m.id::text AS model, m.model_name::text AS model_name, p.id::text AS provider, p.name::text AS provider_name
    FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
), {% endif %}{% if as_rows %}{{ own_rows.read() }}
{%- elif own %}{{ own_rollup.pieces() }}, members AS MATERIALIZED (
    SELECT
        {{ terms.key('u') }},
        {{ each('sum(u.{name}{float}){cast} AS {name}', 8) }}
    FROM {{ terms.rows() }}
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}
    HAVING sum(u.requests::double precision) <> 0
)
{%- elif functions %}members AS MATERIALIZED (
    SELECT
        {{ terms.key('u') }},
        {{ each('sum(u.{total}{float}){cast} AS {name}', 8) }}
    FROM {{ terms.rows() }}
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}
)
{%- else %}usage AS (
    SELECT
        {{ terms.raw_group() | indent(8) }}
        r.status,
        {{ requests.by_status() | indent(8) }}
    {{ terms.requests_read() }} (
        SELECT
            {{ terms.values_read() | indent(12) }}
            {{ requests.as_they_are() }}{{ ',' if columns }} q.status
        FROM gateway_schema.chat_completion_requests AS q
        {{ 'WHERE ' ~ of_requests | join('\n          AND ') if of_requests }}
    ) AS r
    GROUP BY {% for number in range(grouped + 1) %}{{ number + 1 }}{{ ', ' if not loop.last }}{% endfor %}

), members AS MATERIALIZED (
    SELECT
        {{ terms.key('u') }},
        {{ requests.over_status(plain=true) | indent(8) }}
    FROM {{ terms.rows() }}
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}
)
{%- endif %}{% if interval %}, groups AS MATERIALIZED (
    SELECT s.key, {{ each('sum(s.{name}{float}){cast} AS {name}') }}
    FROM members AS s
    GROUP BY s.key
){% endif %}{% if percentiles and as_kept %}, histograms AS MATERIALIZED (
    SELECT {{ terms.key('u') }}, u.bins, u.counts, u.total
    FROM (
        SELECT h.interval_start, h.member AS model_id, h.bins, h.counts, h.total
        FROM {{ terms.histograms_of(literal_interval if interval else 'NULL::text', members if models else 'none') | indent(4) }} AS h
    ) AS u
{{ terms.resolved('u') }}
), total_bins AS MATERIALIZED (
{% if of_groups %}
    SELECT b.bin, sum(b.n::double precision)::bigint AS n
    FROM histograms AS h
    CROSS JOIN LATERAL unnest(h.bins, h.counts) AS b (bin, n)
    GROUP BY b.bin
{% else %}
    SELECT b.bin, b.n
    FROM {{ terms.histograms_of('NULL::text', 'none') }} AS h
    CROSS JOIN LATERAL unnest(h.bins, h.counts) AS b (bin, n)
{% endif %}
){% elif percentiles %}, bins AS MATERIALIZED (
{% if own %}
    SELECT {{ terms.key('u') }}, u.bin, sum(u.n::double precision) AS n
    FROM (
        {{ own_rollup.cells() | indent(8) }}
    ) AS u
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}, 3
    HAVING sum(u.n::double precision) <> 0
{% elif functions %}
    SELECT {{ terms.key('u') }}, u.bin, sum(u.n::double precision) AS n
    FROM (
        SELECT
            {{ 'h.interval_start' if interval else "'-infinity'::timestamptz AS interval_start" }}, h.member AS model_id, b.bin, b.n
        FROM {{ terms.histograms_of(literal_interval if interval else 'NULL::text', members) | indent(4) }} AS h
        CROSS JOIN LATERAL unnest(h.bins, h.counts) AS b (bin, n)
    ) AS u
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}, 3
{% else %}
    SELECT {{ terms.key('u') }}, u.bin, sum(u.n::double precision) AS n
    FROM (
        SELECT
            {{ terms.raw_group() | indent(12) }}
            {{ values.bin('r.time_ms') | indent(12) }} AS bin,
            count(*) AS n
        {{ terms.requests_read() }} (
            SELECT
                {{ terms.values_read() | indent(16) }}
                q.processing_time_ms::numeric AS time_ms
            FROM gateway_schema.chat_completion_requests AS q
            WHERE {{ (of_requests + [requests.in_bounds('q.processing_time_ms')]) | join('\n              AND ') }}
        ) AS r
        GROUP BY {% for number in range(grouped + 1) %}{{ number + 1 }}{{ ', ' if not loop.last }}{% endfor %}

    ) AS u
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}, 3
{% endif %}
){% if by_histograms and not as_kept %}, histograms AS MATERIALIZED (
    SELECT {{ 'b.key' if grouping else "'{}'::text[] AS key" }}, b.interval_start, array_agg(b.bin) AS bins, array_agg(b.n::bigint) AS counts, sum(b.n::double precision)::bigint AS total
    FROM (SELECT b.* FROM bins AS b ORDER BY {{ 'b.key, ' if grouping }}b.interval_start, b.bin) AS b
    GROUP BY {{ 'b.key, ' if grouping }}b.interval_start
{% if of_single_rows %}
    UNION ALL
    SELECT {{ terms.key('u') }}, u.bins, u.counts, u.total
    FROM (
        {{ own_rollup.of_days() | indent(8) }}
    ) AS u
{% endif %}
{% if of_single_rows %}
{% with interval = none %}
{% import 'macros/own_reading.sql.j2' as of_range with context %}
), {{ of_range.pieces() }}, total_bins AS MATERIALIZED (
    -- Of the whole range, by months where they are whole: its days have many more bins.
    SELECT b.bin, sum(b.n::double precision)::bigint AS n
    FROM (
        {{ of_range.cells() | indent(8) }}
    ) AS b
    GROUP BY b.bin
    HAVING sum(b.n::double precision) <> 0
{% endwith %}
{% else %}
), total_bins AS MATERIALIZED (
    SELECT b.bin, sum(b.n::double precision)::bigint AS n
    FROM bins AS b
    GROUP BY b.bin
{% endif %}
){% endif %}{% endif %}{% for place, distinct, of in counted %}, values_{{ place }} AS MATERIALIZED (
    SELECT {{ terms.key('u') }}, {{ 'u.' ~ of.called if of.expression else of.resolved }} AS value
    FROM {{ terms.rows() }}
{{ terms.resolved('u') }}
    GROUP BY {{ terms.by_key('u') }}, 3
{% if own %}
    HAVING sum(u.requests::double precision) <> 0
{% endif %}
){% endfor %}{% if by_percentile %}, of_groups AS (
    SELECT key, {{ values.percentiles() | indent(4) }}
    FROM (
        {{ terms.ranks('key') }}
        FROM (SELECT b.key, b.bin, sum(b.n) AS n FROM bins AS b GROUP BY b.key, b.bin) AS b
    ) AS ranked
    GROUP BY key
){% endif %}, chosen AS MATERIALIZED (
{% if not grouping %}
    SELECT '{}'::text[] AS key, 1::bigint AS place, {{ each('s.{name}') }}
    FROM (SELECT) AS always
    LEFT JOIN {{ groups }} AS s ON true
{% elif wanted %}
    SELECT ARRAY[{% for column in wanted %}w.v{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}]::text[] AS key, w.place, {{ each('s.{name}') }}
    FROM ROWS FROM ({% for column in wanted %}unnest({{ column }}::text[]){{ ', ' if not loop.last }}{% endfor %}) WITH ORDINALITY
        AS w ({% for column in wanted %}v{{ loop.index }}, {% endfor %}place)
    LEFT JOIN {{ groups }} AS s ON s.key = ARRAY[{% for column in wanted %}w.v{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}]::text[]
{% elif as_rows %}
    SELECT
        ARRAY[{% for dimension in grouping %}s.{{ dimension.called }}{{ ', ' if not loop.last }}{% endfor %}]::text[] AS key,
        {{ each('s.{name}', 8) }}, row_number() OVER () AS place
    FROM (
        SELECT s.*
        FROM (
            {{ own_rows.first_groups(terms.ordered(), by_figure and terms.figure(by_figure), direction, limit, offset) | indent(12) }}
        ) AS s
        ORDER BY {{ terms.ordered() }}
        LIMIT {{ limit }} OFFSET {{ offset }}
    ) AS s
{% else %}
    SELECT s.*, row_number() OVER () AS place  -- numbered once they are chosen: all need not be sorted
    FROM (
    SELECT s.key, {{ each('s.{name}') }}
    FROM {{ groups }} AS s
{% if by_percentile %}
    LEFT JOIN of_groups AS p ON p.key = s.key
{% endif %}
{% for place, distinct, _ in counted if distinct == by_figure %}
    LEFT JOIN (
        SELECT v.key, count(DISTINCT v.value) AS n FROM values_{{ place }} AS v GROUP BY v.key
    ) AS x{{ place }} ON x{{ place }}.key = s.key
{% endfor %}
    ORDER BY {{ terms.ordered() }}
    LIMIT {{ limit }} OFFSET {{ offset }}
    ) AS s
{% endif %}
), intervals AS MATERIALIZED (
{% if interval %}
    {{ values.intervals(literal_interval, start, end, timezone) | indent(4) }}
{% else %}
    SELECT '-infinity'::timestamptz AS interval_start
{% endif %}
), points AS (
    SELECT (SELECT count(*) FROM chosen) * (SELECT count(*) FROM intervals) AS number
), total AS MATERIALIZED (
{% if as_rows %}
    {{ own_rows.all_groups() | indent(4) }}
{% else %}
    SELECT count(*) AS groups, {{ each('COALESCE(sum(s.{name}{float}), 0){cast} AS {name}') }}
    FROM {{ groups }} AS s
{% endif %}
), parts AS (
    SELECT 'row' AS part, c.place, c.key, i.interval_start, {{ each('COALESCE(' ~ ('s' if interval else 'c') ~ '.{name}, 0) AS {name}') }}
    FROM chosen AS c
    CROSS JOIN intervals AS i
{% if interval %}
    LEFT JOIN members AS s ON {{ 's.key = c.key AND' if grouping }} s.interval_start = i.interval_start
{% endif %}
    WHERE (SELECT p.number FROM points AS p) <= {{ most_points }}
    UNION ALL
    SELECT 'others', NULL, '{}', '-infinity', {{ each('t.{name} - COALESCE(sum(s.{name}{float}), 0){cast}') }}
    FROM total AS t
    LEFT JOIN chosen AS s ON true
    GROUP BY {{ each('t.{name}') }}
    UNION ALL
    SELECT 'total', NULL, '{}', '-infinity', {{ each('t.{name}') }}
    FROM total AS t
){% if percentiles and by_histograms %}, merged AS (
    SELECT 'row' AS part, h.key, h.interval_start, {{ terms.ranked('h') }}
    FROM histograms AS h
    JOIN chosen AS c ON c.key = h.key
    UNION ALL
    SELECT h.part, '{}', '-infinity', {{ terms.ranked('h') }}
    FROM (
        SELECT b.part, array_agg(b.bin ORDER BY b.bin) AS bins, array_agg(b.n ORDER BY b.bin) AS counts, sum(b.n::double precision)::bigint AS total
        FROM (
            SELECT 'total' AS part, t.bin, t.n FROM total_bins AS t
{% if grouping %}
            UNION ALL
            SELECT 'others', o.bin, sum(o.n::double precision)::bigint
            FROM (
                SELECT t.bin, t.n FROM total_bins AS t
                UNION ALL
                SELECT b.bin, -b.n
                FROM histograms AS h
                JOIN chosen AS c ON c.key = h.key
                CROSS JOIN LATERAL unnest(h.bins, h.counts) AS b (bin, n)
            ) AS o
            GROUP BY o.bin
            HAVING sum(o.n::double precision) <> 0
{% endif %}
        ) AS b
        GROUP BY b.part
    ) AS h
), percentiles AS (
    SELECT
        m.part, m.key, m.interval_start,
{% for rank in (50, 90, 95, 99) %}
        {{ values.bin_value('m.found[' ~ loop.index ~ ']') | indent(8) }} AS p{{ rank }}_processing_time_ms{{ ',' if not loop.last }}
{% endfor %}
    FROM merged AS m
    OFFSET 0
){% elif percentiles %}, merged AS (
    SELECT 'row' AS part, b.key, b.interval_start, b.bin, b.n
    FROM bins AS b
    JOIN chosen AS c ON c.key = b.key
    UNION ALL
    SELECT 'others', '{}', '-infinity', b.bin, sum(b.n)
    FROM bins AS b
    WHERE NOT EXISTS (SELECT FROM chosen AS c WHERE c.key = b.key)
    GROUP BY b.bin
    UNION ALL
    SELECT 'total', '{}', '-infinity', b.bin, sum(b.n)
    FROM bins AS b
    GROUP BY b.bin
), percentiles AS (
    SELECT part, key, interval_start, {{ values.percentiles() | indent(4) }}
    FROM (
        {{ terms.ranks('part, key, interval_start') }}
        FROM merged
    ) AS ranked
    GROUP BY part, key, interval_start
){% endif %}{% for place, _, _ in counted %}, numbers_{{ place }} AS (
    SELECT 'row' AS part, v.key, v.interval_start, count(v.value) AS n
    FROM values_{{ place }} AS v
    JOIN chosen AS c ON c.key = v.key
    GROUP BY v.key, v.interval_start
    UNION ALL
    SELECT 'others', '{}', '-infinity', count(DISTINCT v.value)
    FROM values_{{ place }} AS v
    WHERE NOT EXISTS (SELECT FROM chosen AS c WHERE c.key = v.key)
    UNION ALL
    SELECT 'total', '{}', '-infinity', count(DISTINCT v.value)
    FROM values_{{ place }} AS v
){% endfor %}

SELECT
    s.part,
    s.key,
    {{ values.first_start(literal_interval, 's.interval_start', timezone) if interval else 'NULL::timestamptz' }} AS bucket_start,
    (SELECT t.groups FROM total AS t) AS groups,
    (SELECT p.number FROM points AS p) AS points,
{% if sums %}
    {{ each('s.{name}', 4) }},
{% endif %}
{% for name in asked %}
    {{ terms.figure(name) }} AS {{ name }}{{ ',' if not loop.last }}
{% endfor %}
FROM parts AS s
{% if percentiles %}
LEFT JOIN percentiles AS p ON p.part = s.part {{ 'AND p.key = s.key' if grouping }} AND p.interval_start = s.interval_start
{% endif %}
{% for place, _, _ in counted %}
LEFT JOIN numbers_{{ place }} AS x{{ place }}
    ON x{{ place }}.part = s.part AND x{{ place }}.key = s.key AND x{{ place }}.interval_start = s.interval_start
{% endfor %}
ORDER BY s.part, s.place, s.interval_start
