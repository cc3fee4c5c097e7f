{% import 'macros/values.sql.j2' as values %}
{% import 'macros/filters.sql.j2' as filters %}
-- A time series over [p_start, p_end): a row for each interval (15m, 1h, 1d, 1w or 1mo of the calendar of
-- p_timezone), or with p_group_by provider or model for each interval of each that has requests in the range, and of
-- the group 'unresolved': requests without a model and a provider that exist (p_model_id 'unresolved': these alone).
-- Intervals without requests are rows of zeros. Without p_start it begins with the first request, without
-- p_end it ends now. group_id and group_name are NULL when nothing is grouped; total_cost_usd is NULL where
-- the requests have no cost_usd column.
SELECT chat_stats_claim_function('get_chat_request_timeseries');

SELECT chat_stats_install('get_chat_request_timeseries', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_chat_request_timeseries(
    p_bucket text,
    p_group_by text DEFAULT 'none',
    p_timezone text DEFAULT 'UTC',
    p_start timestamptz DEFAULT NULL,
    p_end timestamptz DEFAULT NULL,
    p_provider_id text DEFAULT NULL,
    p_model_id text DEFAULT NULL,
    p_model_name text DEFAULT NULL
)
RETURNS TABLE (
    bucket_start timestamptz,
    group_id text,
    group_name text,
    total_requests bigint,
    failed_requests bigint,
    pending_requests bigint,
    total_input_tokens bigint,
    total_output_tokens bigint,
    total_tokens bigint,
    avg_processing_time_ms numeric,
    total_cost_usd numeric,
    p50_processing_time_ms numeric,
    p90_processing_time_ms numeric,
    p95_processing_time_ms numeric,
    p99_processing_time_ms numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ filters.declared() }}
    ungrouped boolean := p_group_by = 'none' AND all_models AND NOT only_unresolved;
    range_end timestamptz := COALESCE(p_end, now());
    range_start timestamptz := COALESCE(p_start, stats_schema.chat_stats_first_moment(), range_end);
BEGIN
    IF p_bucket IS NULL OR p_bucket NOT IN ('15m', '1h', '1d', '1w', '1mo') THEN
        RAISE EXCEPTION 'unknown p_bucket %; known: 15m, 1h, 1d, 1w, 1mo', p_bucket
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF p_group_by IS NULL OR p_group_by NOT IN ('none', 'provider', 'model') THEN
        RAISE EXCEPTION 'unknown p_group_by %; known: none, provider, model', p_group_by
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF NOT isfinite(range_start) OR NOT isfinite(range_end) THEN
        RAISE EXCEPTION 'a time series has a beginning and an end: p_start and p_end cannot be infinite'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH series AS (
        SELECT s.interval_start, NULL::text AS group_id, NULL::text AS group_name, {{ each('s.{total}') }}
        FROM stats_schema.chat_stats_total_series(p_bucket, p_timezone, range_start, range_end) AS s
        WHERE ungrouped
        UNION ALL
        SELECT
            s.interval_start,
            CASE WHEN p_group_by = 'none' THEN NULL WHEN p.id IS NULL THEN 'unresolved'
                 WHEN p_group_by = 'provider' THEN p.id::text ELSE m.id::text END,
            CASE WHEN p_group_by = 'none' THEN NULL WHEN p.id IS NULL THEN 'unresolved'
                 WHEN p_group_by = 'provider' THEN p.name::text ELSE m.model_name::text END,
            {{ each('s.{total}') }}
        FROM stats_schema.chat_stats_series(
            p_bucket, p_timezone, range_start, range_end, {{ filters.arguments() }}
        ) AS s
        LEFT JOIN (
            gateway_schema.models AS m JOIN gateway_schema.providers AS p ON p.id = m.provider_id
        ) ON m.id = s.model_id
        WHERE NOT ungrouped AND ({{ filters.asked_for('p.id IS NULL') }})
    ), groups AS (
        SELECT s.group_id, s.group_name, sum(s.total_requests) AS total
        FROM series AS s
        GROUP BY s.group_id, s.group_name
        UNION ALL
        SELECT NULL, NULL, 0 WHERE p_group_by = 'none' AND NOT EXISTS (SELECT FROM series)
    ), points AS (
        SELECT
            s.interval_start,
            s.group_id,
            sum(s.total_requests)::bigint AS requests,
            sum(s.successful_requests)::bigint AS successful,
            sum(s.pending_requests)::bigint AS pending,
            sum(s.total_input_tokens) AS input_tokens,
            sum(s.total_output_tokens) AS output_tokens,
            sum(s.timed_requests)::bigint AS timed,
            sum(s.total_processing_time_ms) AS time_ms,
            sum(s.total_cost_usd) AS cost_usd
        FROM series AS s
        GROUP BY s.interval_start, s.group_id
    )
    SELECT
        {{ values.first_start('p_bucket', 'i.interval_start', 'p_timezone') | indent(8) }},
        g.group_id, g.group_name,
        COALESCE(p.requests, 0), COALESCE(p.requests - p.successful - p.pending, 0), COALESCE(p.pending, 0),
        stats_schema.chat_stats_saturate(p.input_tokens), stats_schema.chat_stats_saturate(p.output_tokens),
        stats_schema.chat_stats_saturate(p.input_tokens + p.output_tokens),
        stats_schema.chat_stats_mean(p.time_ms, p.timed),
        CASE WHEN (SELECT stats_schema.chat_stats_has_cost()) THEN COALESCE(p.cost_usd, 0) END,
        COALESCE(q.p50_processing_time_ms, 0), COALESCE(q.p90_processing_time_ms, 0),
        COALESCE(q.p95_processing_time_ms, 0), COALESCE(q.p99_processing_time_ms, 0)
    FROM stats_schema.chat_stats_intervals(p_bucket, p_timezone, range_start, range_end) AS i
    CROSS JOIN groups AS g
    LEFT JOIN points AS p
        ON p.interval_start = i.interval_start AND COALESCE(p.group_id, '') = COALESCE(g.group_id, '')
    LEFT JOIN stats_schema.chat_stats_percentiles(
        p_bucket, p_timezone, p_group_by, range_start, range_end, {{ filters.arguments() }}
    ) AS q ON q.interval_start = i.interval_start AND COALESCE(q.group_id, '') = COALESCE(g.group_id, '')
    ORDER BY g.total DESC, g.group_id, i.interval_start;
END
$function$;
$install$);
