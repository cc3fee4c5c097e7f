-- The sums of purged requests, by model and 15-minute bucket, for the buckets that begin in [p_start, p_end): of a
-- bucket that was purged nothing finer is known, so it counts as a whole where it begins.
SELECT chat_stats_claim_function('chat_stats_purged_slots');

SELECT chat_stats_install('chat_stats_purged_slots', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purged_slots(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
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
        t.model_id, stats_schema.chat_stats_bucket_at(t.day, s.slot), s.requests, s.successful, s.input_tokens,
        s.output_tokens,
        s.timed, s.time_ms, s.cost_usd
    FROM stats_schema.chat_stats_purged AS t
    CROSS JOIN LATERAL unnest(
        t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
        t.slot_timed, t.slot_time_ms, t.slot_cost_usd
    ) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
    WHERE (p_start IS NULL OR t.day >= stats_schema.chat_stats_day(p_start)
                               AND stats_schema.chat_stats_bucket_at(t.day, s.slot) >= p_start)
      AND (p_end IS NULL OR t.day <= stats_schema.chat_stats_day(p_end)
                             AND stats_schema.chat_stats_bucket_at(t.day, s.slot) < p_end);
END
$function$;
$install$);
