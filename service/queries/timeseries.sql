{% import 'macros/requests.sql.j2' as requests %}
-- fallback_optimized of the time series: the rows of get_chat_request_timeseries(), needing no function.
-- $1, $2: start and end of the time range, both given; $3: 15m, 1h, 1d, 1w or 1mo; $4: none, provider or
-- model; $5: the time zone; $6, $7: a provider's and a model's id as text, NULL: no limit; $8: most rows.
WITH catalogue AS (
    SELECT
        m.id AS model_id,
        CASE $4::text WHEN 'provider' THEN p.id::text WHEN 'model' THEN m.id::text END AS group_id,
        CASE $4::text WHEN 'provider' THEN p.name::text WHEN 'model' THEN m.model_name::text END AS group_name
    FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
    WHERE ($6::text IS NULL OR p.id::text = $6)
      AND ($7::text IS NULL OR m.id::text = $7)
), usage AS (
    SELECT
        CASE $3::text
            WHEN '15m' THEN r.bucket
            WHEN '1h' THEN date_trunc('hour', r.bucket, $5::text)
            WHEN '1d' THEN date_trunc('day', r.bucket, $5::text)
            WHEN '1w' THEN date_trunc('week', r.bucket, $5::text)
            WHEN '1mo' THEN date_trunc('month', r.bucket, $5::text)
        END AS interval_start,
        r.model_id,
        r.status,
        {{ requests.by_status() | indent(8) }}
    FROM {{ requests.absent() }}
    CROSS JOIN LATERAL (
        SELECT
            model_id, date_bin('15 minutes', created_at::timestamptz, '2000-01-01T00:00:00Z'::timestamptz) AS bucket,
            status, {{ requests.as_they_are() }}
        FROM gateway_schema.chat_completion_requests
        WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz
          AND ($6::text IS NULL AND $7::text IS NULL
               OR model_id = ANY (ARRAY(SELECT c.model_id FROM catalogue AS c)))
    ) AS r
    GROUP BY 1, r.model_id, r.status
), points AS (
    SELECT
        u.interval_start,
        c.group_id,
        c.group_name,
        {{ requests.over_status(requests.means_success('concat(u.status)')) | indent(8) }}
    FROM usage AS u
    JOIN catalogue AS c ON c.model_id = u.model_id
    GROUP BY u.interval_start, c.group_id, c.group_name
), histograms AS (
    -- The bins of chat_stats_bin().
    SELECT
        CASE $3::text
            WHEN '15m' THEN r.bucket
            WHEN '1h' THEN date_trunc('hour', r.bucket, $5::text)
            WHEN '1d' THEN date_trunc('day', r.bucket, $5::text)
            WHEN '1w' THEN date_trunc('week', r.bucket, $5::text)
            WHEN '1mo' THEN date_trunc('month', r.bucket, $5::text)
        END AS interval_start,
        r.model_id,
        CASE WHEN r.time_ms <= 0.001 THEN -32768
             ELSE ceil(ln(r.time_ms::double precision) / ln(1.04::double precision)) END::smallint AS bin,
        count(*) AS n
    FROM (
        SELECT
            model_id, date_bin('15 minutes', created_at::timestamptz, '2000-01-01T00:00:00Z'::timestamptz) AS bucket,
            processing_time_ms::numeric AS time_ms
        FROM gateway_schema.chat_completion_requests
        WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz
          AND ($6::text IS NULL AND $7::text IS NULL
               OR model_id = ANY (ARRAY(SELECT c.model_id FROM catalogue AS c)))
          AND {{ requests.in_bounds('processing_time_ms') }}
    ) AS r
    GROUP BY 1, 2, 3
), merged AS (
    SELECT h.interval_start, c.group_id, h.bin, sum(h.n)::double precision AS n
    FROM histograms AS h
    JOIN catalogue AS c ON c.model_id = h.model_id
    GROUP BY 1, 2, 3
), ranked AS (
    SELECT
        interval_start,
        group_id,
        sum(n) OVER (PARTITION BY interval_start, group_id ORDER BY bin ROWS UNBOUNDED PRECEDING) AS up_to,
        sum(n) OVER (PARTITION BY interval_start, group_id) AS total,
        CASE WHEN bin = -32768 THEN 0
             ELSE round((2 * power(1.04::double precision, bin) / 2.04)::numeric, CASE WHEN bin > 0 THEN 2 ELSE 5 END)
        END AS time_ms
    FROM merged
), percentiles AS (
    SELECT
        interval_start,
        group_id,
        min(time_ms) FILTER (WHERE up_to * 100 >= total * 50) AS p50,
        min(time_ms) FILTER (WHERE up_to * 100 >= total * 90) AS p90,
        min(time_ms) FILTER (WHERE up_to * 100 >= total * 95) AS p95,
        min(time_ms) FILTER (WHERE up_to * 100 >= total * 99) AS p99
    FROM ranked
    GROUP BY interval_start, group_id
), groups AS (
    SELECT group_id, group_name, sum(requests) AS total FROM points GROUP BY group_id, group_name
    UNION ALL
    SELECT NULL, NULL, 0 WHERE $4 = 'none' AND NOT EXISTS (SELECT FROM points)
), intervals AS (
    -- Each bucket says in which interval it lies, so that a change of the clock needs no rule of its own.
    SELECT DISTINCT
        CASE $3 WHEN '15m' THEN b.bucket ELSE date_trunc('hour', b.bucket, $5) END AS interval_start
    FROM generate_series(
        date_bin('15 minutes', $1, '2000-01-01T00:00:00Z'::timestamptz), $2 - interval '1 microsecond',
        interval '15 minutes'
    ) AS b (bucket)
    WHERE $3 IN ('15m', '1h') AND $1 < $2
    UNION
    -- By the calendar, not by the clock: some days have 23 or 25 hours.
    SELECT date_trunc(c.unit, d.local_start AT TIME ZONE $5, $5)
    FROM (
        VALUES ('1d', 'day', interval '1 day'), ('1w', 'week', '7 days'), ('1mo', 'month', '1 month')
    ) AS c (bucket, unit, length)
    CROSS JOIN generate_series(
        date_trunc(c.unit, date_bin('15 minutes', $1, '2000-01-01T00:00:00Z'::timestamptz), $5) AT TIME ZONE $5,
        ($2 - interval '1 microsecond') AT TIME ZONE $5, c.length
    ) AS d (local_start)
    WHERE c.bucket = $3 AND $1 < $2
)
SELECT
    -- Where the clock goes back to midnight, the day begins with the first of the two.
    CASE WHEN $3 NOT IN ('15m', '1h')
              AND (i.interval_start - interval '1 hour') AT TIME ZONE $5 = i.interval_start AT TIME ZONE $5
         THEN i.interval_start - interval '1 hour' ELSE i.interval_start END AS bucket_start,
    g.group_id,
    g.group_name,
    COALESCE(p.requests, 0) AS total_requests,
    COALESCE(p.requests - p.successful, 0) AS failed_requests,
    LEAST(GREATEST(COALESCE(p.input_tokens, 0), -9223372036854775808), 9223372036854775807)::bigint
        AS total_input_tokens,
    LEAST(GREATEST(COALESCE(p.output_tokens, 0), -9223372036854775808), 9223372036854775807)::bigint
        AS total_output_tokens,
    LEAST(
        GREATEST(COALESCE(p.input_tokens + p.output_tokens, 0), -9223372036854775808), 9223372036854775807
    )::bigint AS total_tokens,
    CASE WHEN p.timed > 0 THEN round(p.time_ms / p.timed, 2) ELSE 0 END AS avg_processing_time_ms,
    CASE WHEN EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
          AND a.attname = 'readable.cost_usd' AND NOT a.attisdropped
    ) THEN COALESCE(p.cost_usd, 0) END AS total_cost_usd,
    COALESCE(q.p50, 0) AS p50_processing_time_ms,
    COALESCE(q.p90, 0) AS p90_processing_time_ms,
    COALESCE(q.p95, 0) AS p95_processing_time_ms,
    COALESCE(q.p99, 0) AS p99_processing_time_ms
FROM intervals AS i
CROSS JOIN groups AS g
LEFT JOIN points AS p
    ON p.interval_start = i.interval_start AND COALESCE(p.group_id, '') = COALESCE(g.group_id, '')
LEFT JOIN percentiles AS q
    ON q.interval_start = i.interval_start AND COALESCE(q.group_id, '') = COALESCE(g.group_id, '')
ORDER BY g.total DESC, g.group_id, i.interval_start
LIMIT $8
