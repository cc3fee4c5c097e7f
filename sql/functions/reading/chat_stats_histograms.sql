{% import 'macros/filters.sql.j2' as filters %}
-- The histograms of chat_stats_scan_histograms(), from the rollup when it may be read, else from a scan. All
-- percentiles are made from them.
SELECT chat_stats_claim_function('chat_stats_histograms');

SELECT chat_stats_install('chat_stats_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_histograms(
    p_interval text, p_timezone text, p_group_by text,
    p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz, member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    ELSIF NOT stats_schema.chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_scan_histograms(
            p_interval, p_timezone, p_group_by, p_start, p_end, {{ filters.arguments() }}
        );
    ELSIF p_interval IS NULL THEN
        RETURN QUERY SELECT NULL::timestamptz, h.* FROM stats_schema.chat_stats_rolled_up_histograms(
            p_group_by, p_start, p_end, {{ filters.arguments() }}
        ) AS h;
    ELSE
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up_series_histograms(
            p_interval, p_timezone, p_group_by, p_start, p_end, {{ filters.arguments() }}
        );
    END IF;
END
$function$;
$install$);
