-- The histograms of chat_stats_scan_histograms(), from the rollup when it may be read, else from a scan. All
-- percentiles are made from them.
SELECT chat_stats_claim_function('chat_stats_histograms');

DROP FUNCTION IF EXISTS chat_stats_histograms(text, text, timestamptz, timestamptz, text, text, boolean);

CREATE OR REPLACE FUNCTION chat_stats_histograms(
    p_interval text, p_timezone text, p_group_by text,
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    interval_start timestamptz, member models.id%TYPE, bins smallint[], counts bigint[], total bigint
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    ELSIF NOT chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM chat_stats_scan_histograms(
            p_interval, p_timezone, p_group_by, p_start, p_end, p_provider_id, p_model_id
        );
    ELSIF p_interval IS NULL THEN
        RETURN QUERY SELECT NULL::timestamptz, h.* FROM chat_stats_rolled_up_histograms(
            p_group_by, p_start, p_end, p_provider_id, p_model_id
        ) AS h;
    ELSE
        RETURN QUERY SELECT * FROM chat_stats_rolled_up_series_histograms(
            p_interval, p_timezone, p_group_by, p_start, p_end, p_provider_id, p_model_id
        );
    END IF;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_histograms');
