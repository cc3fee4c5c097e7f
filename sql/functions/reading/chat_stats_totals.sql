-- Totals per model over [p_start, p_end): from the rollup when it may be read, else from a scan.
SELECT chat_stats_claim_function('chat_stats_totals');

SELECT chat_stats_install('chat_stats_totals', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_totals(
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    IF stats_schema.chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up(p_start, p_end, p_provider_id, p_model_id);
    ELSE
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_scan(p_start, p_end, p_provider_id, p_model_id);
    END IF;
END
$function$;
$install$);
