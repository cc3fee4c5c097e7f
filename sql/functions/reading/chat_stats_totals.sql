{% import 'macros/filters.sql.j2' as filters %}
-- Totals per model over [p_start, p_end), model_id NULL and models that do not exist included: from the rollup when it
-- may be read, else from a scan.
SELECT chat_stats_claim_function('chat_stats_totals');

SELECT chat_stats_install('chat_stats_totals', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_totals(
    p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    IF stats_schema.chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up(p_start, p_end, {{ filters.arguments() }});
    ELSE
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_scan(p_start, p_end, {{ filters.arguments() }});
    END IF;
END
$function$;
$install$);
