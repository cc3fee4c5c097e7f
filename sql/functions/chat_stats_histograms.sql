-- The histogram of times of each model over [p_start, p_end), with p_interval for each interval of a time series:
-- from the rollup when it may be read, else from a scan. All percentiles are made from its rows.
--
-- p_merged: one histogram of all models that exist and have a provider that exists; model_id is NULL then. Merging
-- early matters: histograms of many models and intervals have about as many bins as there are requests.
SELECT chat_stats_claim_function('chat_stats_histograms');

CREATE OR REPLACE FUNCTION chat_stats_histograms(
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
BEGIN
    IF chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM chat_stats_rolled_up_histograms(
            p_interval, p_timezone, p_start, p_end, p_provider_id, p_model_id, p_merged
        );
    ELSE
        RETURN QUERY SELECT * FROM chat_stats_scan_histograms(
            p_interval, p_timezone, p_start, p_end, p_provider_id, p_model_id, p_merged
        );
    END IF;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_histograms');
