{% import 'macros/values.sql.j2' as values %}
{% import 'macros/requests.sql.j2' as requests %}
{% import 'plain.sql.j2' as plain %}
{% set filters = ('$6::text', '$7::text', '$8::text') %}
{# Of requests without a model and provider that exist, which are a group of their own. #}
{% macro group(column) -%}
CASE WHEN c.model_id IS NULL AND $4 <> 'none' THEN 'unresolved' ELSE {{ column }} END
{%- endmacro %}
-- fallback_optimized of the time series: the rows of get_chat_request_timeseries(), needing no function.
-- $1, $2: start and end of the time range, both given; $3: 15m, 1h, 1d, 1w or 1mo; $4: none, provider or
-- model; $5: the time zone; $6, $7, $8: filters by provider, model and model's name, NULL: no limit; $9: most rows.
WITH catalogue AS MATERIALIZED (
    SELECT
        k.model_id,
        CASE $4::text WHEN 'provider' THEN k.provider_id::text WHEN 'model' THEN k.model_id::text END AS group_id,
        CASE $4::text WHEN 'provider' THEN k.provider_name WHEN 'model' THEN k.model_name END AS group_name
    FROM (
        {{ plain.catalogue(filters) | indent(8) }}
    ) AS k
), usage AS (
    SELECT
        {{ values.interval_start('$3::text', 'r.bucket', 'r.bucket', '$5::text') | indent(8) }} AS interval_start,
        r.model_id,
        r.status,
        {{ requests.by_status() | indent(8) }}
    FROM {{ requests.absent() }}
    CROSS JOIN LATERAL (
        SELECT
            model_id, {{ values.bucket('created_at::timestamptz') }} AS bucket,
            status, {{ requests.as_they_are() }}
        FROM gateway_schema.chat_completion_requests
        WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz
          AND ({{ plain.of_catalogue(filters) | indent(15) }})
    ) AS r
    GROUP BY 1, r.model_id, r.status
), points AS (
    SELECT
        u.interval_start,
        {{ group('c.group_id') }} AS group_id,
        {{ group('c.group_name') }} AS group_name,
        {{ requests.over_status(plain=true) | indent(8) }}
    FROM usage AS u
    LEFT JOIN catalogue AS c ON c.model_id = u.model_id
    WHERE {{ plain.selected('c.model_id', filters) | indent(4) }}
    GROUP BY 1, 2, 3
), histograms AS (
    SELECT
        {{ values.interval_start('$3::text', 'r.bucket', 'r.bucket', '$5::text') | indent(8) }} AS interval_start,
        r.model_id,
        {{ values.bin('r.time_ms') | indent(8) }} AS bin,
        count(*) AS n
    FROM (
        SELECT
            model_id, {{ values.bucket('created_at::timestamptz') }} AS bucket,
            processing_time_ms::numeric AS time_ms
        FROM gateway_schema.chat_completion_requests
        WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz
          AND ({{ plain.of_catalogue(filters) | indent(15) }})
          AND {{ requests.in_bounds(measure('time_ms').column.name) }}
    ) AS r
    GROUP BY 1, 2, 3
), merged AS (
    SELECT h.interval_start, {{ group('c.group_id') }} AS group_id, h.bin, sum(h.n)::double precision AS n
    FROM histograms AS h
    LEFT JOIN catalogue AS c ON c.model_id = h.model_id
    WHERE {{ plain.selected('c.model_id', filters) | indent(4) }}
    GROUP BY 1, 2, 3
), ranked AS (
    SELECT
        interval_start,
        group_id,
        sum(n) OVER (PARTITION BY interval_start, group_id ORDER BY bin ROWS UNBOUNDED PRECEDING) AS up_to,
        sum(n) OVER (PARTITION BY interval_start, group_id) AS total,
        {{ values.bin_value('bin') | indent(8) }} AS time_ms
    FROM merged
), percentiles AS (
    SELECT
        interval_start,
        group_id,
        {{ values.percentiles() | indent(8) }}
    FROM ranked
    GROUP BY interval_start, group_id
), groups AS (
    SELECT group_id, group_name, sum(requests) AS total FROM points GROUP BY group_id, group_name
    UNION ALL
    SELECT NULL, NULL, 0 WHERE $4 = 'none' AND NOT EXISTS (SELECT FROM points)
), intervals AS (
    {{ values.intervals('$3', '$1', '$2', '$5') | indent(4) }}
)
SELECT
    {{ values.first_start('$3', 'i.interval_start', '$5') | indent(4) }} AS bucket_start,
    g.group_id,
    g.group_name,
    COALESCE(p.requests, 0) AS total_requests,
    COALESCE(p.requests - p.successful - p.pending, 0) AS failed_requests,
    COALESCE(p.pending, 0) AS pending_requests,
    {{ values.saturate('p.input_tokens') }} AS total_input_tokens,
    {{ values.saturate('p.output_tokens') }} AS total_output_tokens,
    {{ values.saturate('p.input_tokens + p.output_tokens') }} AS total_tokens,
    {{ values.mean('p.time_ms', 'p.timed') }} AS avg_processing_time_ms,
    CASE WHEN {{ values.has_cost("'gateway_schema.chat_completion_requests'::regclass") | indent(4) }} THEN COALESCE(p.cost_usd, 0) END AS total_cost_usd,
{% for rank in (50, 90, 95, 99) %}
    COALESCE(q.p{{ rank }}_processing_time_ms, 0) AS p{{ rank }}_processing_time_ms{{ ',' if not loop.last }}
{% endfor %}
FROM intervals AS i
CROSS JOIN groups AS g
LEFT JOIN points AS p
    ON p.interval_start = i.interval_start AND COALESCE(p.group_id, '') = COALESCE(g.group_id, '')
LEFT JOIN percentiles AS q
    ON q.interval_start = i.interval_start AND COALESCE(q.group_id, '') = COALESCE(g.group_id, '')
ORDER BY g.total DESC, g.group_id, i.interval_start
LIMIT $9
