-- What chat_stats_rollup_days must hold: the sums of the slots.
SELECT chat_stats_claim_function('chat_stats_days_of_slots');

SELECT chat_stats_install('chat_stats_days_of_slots', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_days_of_slots()
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    day date,
    requests bigint,
    successful bigint,
    input_tokens numeric,
    output_tokens numeric,
    timed bigint,
    time_ms numeric,
    cost_usd numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        t.model_id, t.day, s.requests::bigint, s.successful::bigint, s.input_tokens, s.output_tokens,
        s.timed::bigint, s.time_ms, s.cost_usd
    FROM stats_schema.chat_stats_rollup_slots AS t
    CROSS JOIN LATERAL (
        SELECT
            COALESCE(sum(u.requests), 0) AS requests, COALESCE(sum(u.successful), 0) AS successful,
            COALESCE(sum(u.input_tokens), 0) AS input_tokens,
            COALESCE(sum(u.output_tokens), 0) AS output_tokens, COALESCE(sum(u.timed), 0) AS timed,
            COALESCE(sum(u.time_ms), 0) AS time_ms, COALESCE(sum(u.cost_usd), 0) AS cost_usd
        FROM unnest(
            t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
            t.slot_timed, t.slot_time_ms, t.slot_cost_usd
        ) AS u (requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
    ) AS s;
END
$function$;
$install$);
