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
        WHERE e.edge > stats_schema.chat_stats_bucket(e.edge)
          AND (EXISTS (
              SELECT FROM stats_schema.{{ rollup('total').purged }} AS t
              WHERE t.day = stats_schema.chat_stats_day(e.edge) AND stats_schema.chat_stats_slot(e.edge) = ANY (t.slots)
          ) OR EXISTS (
              SELECT FROM stats_schema.chat_stats_kept AS d WHERE d.bucket = stats_schema.chat_stats_bucket(e.edge)
          ) OR EXISTS (
              SELECT FROM stats_schema.chat_stats_kept_on_shards() AS d
              WHERE d.bucket = stats_schema.chat_stats_bucket(e.edge)
          ))
    );
END
$function$;
$install$);
