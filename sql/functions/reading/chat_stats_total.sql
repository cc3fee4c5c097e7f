-- Totals of all requests in [p_start, p_end), in one row: from the rollup when it may be read, else from a scan. No row
-- when there are none.
SELECT chat_stats_claim_function('chat_stats_total');

SELECT chat_stats_install('chat_stats_total', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_total(
    p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
ROWS 1
AS $function$
#variable_conflict use_column
BEGIN
    IF stats_schema.chat_stats_rollup_ready() THEN
        RETURN QUERY SELECT * FROM stats_schema.chat_stats_rolled_up_total(p_start, p_end);
    ELSE
        RETURN QUERY
        SELECT
            {{ each('sum(s.{total}){cast}', 12) }}
        FROM stats_schema.chat_stats_scan(p_start, p_end, NULL::text, NULL::text, NULL::text) AS s
        HAVING count(*) > 0;
    END IF;
END
$function$;
$install$);
