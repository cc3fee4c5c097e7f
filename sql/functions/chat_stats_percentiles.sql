-- Percentiles of the times by nearest rank over [p_start, p_end), with p_interval for each interval of a time
-- series, of each provider or model with p_group_by; where there are no times, there is no row.
SELECT chat_stats_claim_function('chat_stats_percentiles');

CREATE OR REPLACE FUNCTION chat_stats_percentiles(
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
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH merged AS (
        SELECT
            h.interval_start,
            -- (In order of bytes: any other costs more to sort by than all the rest.)
            CASE p_group_by WHEN 'provider' THEN p.id::text WHEN 'model' THEN m.id::text END COLLATE "C" AS group_id,
            h.bin,
            sum(h.n)::double precision AS n  -- exact for all counts that a table can have
        FROM chat_stats_histograms(
            p_interval, p_timezone, p_start, p_end, p_provider_id, p_model_id, p_group_by = 'none'
        ) AS h
        LEFT JOIN models AS m ON m.id = h.model_id
        LEFT JOIN providers AS p ON p.id = m.provider_id
        WHERE p_group_by = 'none' OR p.id IS NOT NULL
        GROUP BY 1, 2, 3
        HAVING sum(h.n) > 0
    ), ranked AS (
        SELECT
            d.interval_start, d.group_id, d.bin,
            sum(d.n) OVER (
                PARTITION BY d.interval_start, d.group_id ORDER BY d.bin ROWS UNBOUNDED PRECEDING
            ) AS up_to,
            sum(d.n) OVER (PARTITION BY d.interval_start, d.group_id) AS total
        FROM merged AS d
    )
    SELECT
        r.interval_start,
        r.group_id,
        chat_stats_bin_value(min(r.bin) FILTER (WHERE r.up_to * 100 >= r.total * 50)),
        chat_stats_bin_value(min(r.bin) FILTER (WHERE r.up_to * 100 >= r.total * 90)),
        chat_stats_bin_value(min(r.bin) FILTER (WHERE r.up_to * 100 >= r.total * 95)),
        chat_stats_bin_value(min(r.bin) FILTER (WHERE r.up_to * 100 >= r.total * 99))
    FROM ranked AS r
    GROUP BY r.interval_start, r.group_id;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_percentiles');
