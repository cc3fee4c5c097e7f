-- The histogram of times (chat_stats_bin()) of each model over [p_start, p_end), from the requests themselves and
-- what is kept of those that were purged (whose buckets count as a whole where they begin); with p_interval for each
-- interval of a time series, else interval_start is NULL.
SELECT chat_stats_claim_function('chat_stats_scan_histograms');

CREATE OR REPLACE FUNCTION chat_stats_scan_histograms(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text,
    p_merged boolean DEFAULT false
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id chat_stats_deltas.model_id%TYPE,
    bin smallint,
    n bigint
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT h.interval_start, CASE WHEN NOT p_merged THEN h.model_id END, h.bin, sum(h.n)::bigint
    FROM (
        SELECT
            chat_stats_interval_start(p_interval, chat_stats_bucket(r.created_at), p_timezone), r.model_id,
            chat_stats_bin(r.processing_time_ms::numeric), count(*)
        FROM chat_completion_requests AS r
        WHERE (p_start IS NULL OR r.created_at >= p_start)
          AND (p_end IS NULL OR r.created_at < p_end)
          AND (p_provider_id IS NULL AND p_model_id IS NULL
               OR r.model_id = ANY (ARRAY(
                   SELECT m.id FROM models AS m
                   WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                     AND (p_model_id IS NULL OR m.id::text = p_model_id)
               )))
          AND r.model_id IS NOT NULL
          AND r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT chat_stats_interval_start(p_interval, b.bucket, p_timezone), b.model_id, b.bin, b.n
        FROM chat_stats_purged_bins(p_start, p_end) AS b
        WHERE p_provider_id IS NULL AND p_model_id IS NULL
           OR b.model_id IN (
               SELECT m.id FROM models AS m
               WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                 AND (p_model_id IS NULL OR m.id::text = p_model_id)
           )
    ) AS h (interval_start, model_id, bin, n)
    WHERE NOT p_merged OR h.model_id IN (
        SELECT m.id FROM models AS m JOIN providers AS o ON o.id = m.provider_id
    )
    GROUP BY 1, 2, 3
    HAVING sum(h.n) <> 0;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_scan_histograms');
