-- What chat_stats_rollup_days must hold: the sums of the slots.
SELECT chat_stats_claim_function('chat_stats_days_of_slots');

SELECT chat_stats_install('chat_stats_days_of_slots', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_days_of_slots()
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    day date,
    {{ each('{name} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        t.model_id, t.day,
        {{ each('s.{name}{cast}', 8) }}
    FROM stats_schema.{{ rollup('slots').table }} AS t
    CROSS JOIN LATERAL (
        SELECT
            {{ each('COALESCE(sum(u.{name}), 0) AS {name}', 12) }}
        FROM unnest(
            {{ each('t.slot_{name}') }}
        ) AS u ({{ each('{name}') }})
    ) AS s;
END
$function$;
$install$);
