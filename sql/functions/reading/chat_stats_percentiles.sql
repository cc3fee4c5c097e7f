-- Percentiles of the times by nearest rank over [p_start, p_end), with p_interval for each interval of a time series,
-- of each provider or model with p_group_by; where there are no times, there is no row. p_group_by both: of each model
-- and, with group_id NULL, of all of them, from the same histograms.
SELECT chat_stats_claim_function('chat_stats_percentiles');

SELECT chat_stats_install('chat_stats_percentiles', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_percentiles(
    p_interval text, p_timezone text, p_group_by text,
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
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
    WITH histograms AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_histograms(
            p_interval, p_timezone, CASE p_group_by WHEN 'both' THEN 'model' ELSE p_group_by END,
            p_start, p_end, p_provider_id, p_model_id
        )
    ), found AS MATERIALIZED (
        SELECT h.interval_start, h.member, stats_schema.chat_stats_percentile_bins(h.bins, h.counts, h.total) AS bins
        FROM histograms AS h
        UNION ALL
        SELECT t.interval_start, NULL,
        stats_schema.chat_stats_percentile_bins(array_agg(t.bin), array_agg(t.n), sum(t.n)::bigint)
        FROM (
            SELECT u.interval_start, u.bin, sum(u.n)::bigint AS n
            FROM (SELECT h.interval_start, unnest(h.bins) AS bin, unnest(h.counts) AS n FROM histograms AS h) AS u
            GROUP BY 1, 2
            ORDER BY 1, 2
        ) AS t
        WHERE p_group_by = 'both'
        GROUP BY t.interval_start
    )
    SELECT
        f.interval_start,
        CASE p_group_by
            WHEN 'provider' THEN (SELECT m.provider_id::text FROM gateway_schema.models AS m WHERE m.id = f.member)
            ELSE f.member::text
        END,
        stats_schema.chat_stats_bin_value(f.bins[1]), stats_schema.chat_stats_bin_value(f.bins[2]),
        stats_schema.chat_stats_bin_value(f.bins[3]), stats_schema.chat_stats_bin_value(f.bins[4])
    FROM found AS f;
END
$function$;
$install$);
