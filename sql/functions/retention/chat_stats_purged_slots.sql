{% import 'macros/rollups.sql.j2' as kept %}
-- The sums of purged requests, by model and 15-minute bucket, for the buckets that begin in [p_start, p_end): of a
-- bucket that was purged nothing finer is known, so it counts as a whole where it begins.
SELECT chat_stats_claim_function('chat_stats_purged_slots');

SELECT chat_stats_install('chat_stats_purged_slots', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purged_slots(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
    {{ each('{name} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
ROWS 10
AS $function$
#variable_conflict use_column
BEGIN
    IF NOT stats_schema.chat_stats_has_purged() THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT
        t.model_id, stats_schema.chat_stats_bucket_at(t.day, s.slot), {{ each('s.{name}') }}
    FROM stats_schema.{{ rollup('model').purged }} AS t
    CROSS JOIN LATERAL {{ kept.slots_of('t') }}
    WHERE (p_start IS NULL OR t.day >= stats_schema.chat_stats_day(p_start)
                               AND stats_schema.chat_stats_bucket_at(t.day, s.slot) >= p_start)
      AND (p_end IS NULL OR t.day <= stats_schema.chat_stats_day(p_end)
                             AND stats_schema.chat_stats_bucket_at(t.day, s.slot) < p_end)
    UNION ALL
    SELECT d.model_id, d.bucket, {{ each('d.{name}') }}
    FROM stats_schema.chat_stats_kept AS d
    WHERE (p_start IS NULL OR d.bucket >= p_start) AND (p_end IS NULL OR d.bucket < p_end);
END
$function$;
$install$);
