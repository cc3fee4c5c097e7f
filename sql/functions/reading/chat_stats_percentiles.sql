{% import 'macros/filters.sql.j2' as filters %}
-- Percentiles of the times by nearest rank over [p_start, p_end), for each interval of a time series,
-- of each provider or model with p_group_by, and of the group 'unresolved'; where there are no times, there is no row.
SELECT chat_stats_claim_function('chat_stats_percentiles');

SELECT chat_stats_install('chat_stats_percentiles', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_percentiles(
    p_interval text, p_timezone text, p_group_by text, p_start timestamptz, p_end timestamptz,
    {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz,
    group_id text,
    p50_processing_time_ms numeric,
    p90_processing_time_ms numeric,
    p95_processing_time_ms numeric,
    p99_processing_time_ms numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT h.interval_start, h.member, stats_schema.chat_stats_percentile_bins(h.bins, h.counts, h.total) AS bins
        FROM stats_schema.chat_stats_histograms(
            p_interval, p_timezone, p_group_by, p_start, p_end, {{ filters.arguments() }}
        ) AS h
    )
    SELECT
        f.interval_start,
        CASE
            WHEN p_group_by = 'none' THEN NULL
            WHEN f.member IS NULL THEN 'unresolved'
            WHEN p_group_by = 'provider'
                THEN (SELECT m.provider_id::text FROM gateway_schema.models AS m WHERE m.id = f.member)
            ELSE f.member::text
        END,
        stats_schema.chat_stats_bin_value(f.bins[1]), stats_schema.chat_stats_bin_value(f.bins[2]),
        stats_schema.chat_stats_bin_value(f.bins[3]), stats_schema.chat_stats_bin_value(f.bins[4])
    FROM found AS f;
END
$function$;
$install$);
