{% import 'macros/filters.sql.j2' as filters %}
-- Totals per model and interval over [p_start, p_end), which must both be given; model_id NULL and models that do not
-- exist included: from the rollup when it may be read, else from a scan. Intervals without requests have no row.
SELECT chat_stats_claim_function('chat_stats_series');

SELECT chat_stats_install('chat_stats_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz,
    {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
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
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up_series(
            p_interval, p_timezone, p_start, p_end, {{ filters.arguments() }}
        );
    ELSE
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_scan_series(
            p_interval, p_timezone, p_start, p_end, {{ filters.arguments() }}
        );
    END IF;
END
$function$;
$install$);
