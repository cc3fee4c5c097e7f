-- Totals of all requests by interval over [p_start, p_end), which must both be given: from the rollup when it may be
-- read, else from a scan. Intervals without requests have no row.
SELECT chat_stats_claim_function('chat_stats_total_series');

SELECT chat_stats_install('chat_stats_total_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_total_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (
    interval_start timestamptz,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    ELSIF stats_schema.chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up_total_series(p_interval, p_timezone, p_start, p_end);
    ELSE
        RETURN QUERY
        SELECT
            s.interval_start,
            {{ each('sum(s.{total}){cast}', 12) }}
        FROM stats_schema.chat_stats_scan_series(
            p_interval, p_timezone, p_start, p_end, NULL::text, NULL::text, NULL::text
        ) AS s
        GROUP BY s.interval_start;
    END IF;
END
$function$;
$install$);
