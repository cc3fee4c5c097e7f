-- Whether statistics over [p_start, p_end) are exact to the microsecond. They are not when an edge of the range lies
-- within a 15-minute bucket of which requests were purged: that bucket counts as a whole where it begins.
SELECT chat_stats_install('chat_stats_range_is_exact', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_range_is_exact(p_start timestamptz, p_end timestamptz)
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    IF NOT stats_schema.chat_stats_has_purged() THEN
        RETURN true;
    END IF;
    RETURN NOT EXISTS (
        SELECT
        FROM unnest(ARRAY[p_start, p_end]) AS e (edge)
        JOIN stats_schema.chat_stats_purged AS t ON t.day = stats_schema.chat_stats_day(e.edge)
        WHERE e.edge > stats_schema.chat_stats_bucket(e.edge)
          AND stats_schema.chat_stats_slot(e.edge) = ANY (t.slots)
    );
END
$function$;
$install$);
