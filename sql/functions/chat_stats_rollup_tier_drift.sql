-- In how many places the totals of days, months and lifetime differ from the slots, days and months that they
-- are made of.
CREATE OR REPLACE FUNCTION chat_stats_rollup_tier_drift()
RETURNS bigint
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN (
        SELECT count(*)
        FROM chat_stats_rollup_days AS d
        CROSS JOIN LATERAL (
            SELECT
                COALESCE(sum(u.requests), 0) AS requests, COALESCE(sum(u.successful), 0) AS successful,
                COALESCE(sum(u.input_tokens), 0) AS input_tokens,
                COALESCE(sum(u.output_tokens), 0) AS output_tokens, COALESCE(sum(u.timed), 0) AS timed,
                COALESCE(sum(u.time_ms), 0) AS time_ms, COALESCE(sum(u.cost_usd), 0) AS cost_usd
            FROM unnest(
                d.slot_requests, d.slot_successful, d.slot_input_tokens, d.slot_output_tokens,
                d.slot_timed, d.slot_time_ms, d.slot_cost_usd
            ) AS u (requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        ) AS s
        WHERE (d.requests, d.successful, d.input_tokens, d.output_tokens, d.timed, d.time_ms, d.cost_usd)
            IS DISTINCT FROM
            (s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd)
    ) + (
        SELECT count(*)
        FROM (
            SELECT t.model_id, t.month, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms,
                t.cost_usd, h.bins, h.counts
            FROM chat_stats_rollup_months AS t
            CROSS JOIN LATERAL (  -- in which order they are does not matter
                SELECT
                    COALESCE(array_agg(u.bin ORDER BY u.bin), '{}') AS bins,
                    COALESCE(array_agg(u.n ORDER BY u.bin), '{}') AS counts
                FROM unnest(t.bins, t.counts) AS u (bin, n)
            ) AS h
        ) AS kept
        FULL JOIN chat_stats_months_of_days() AS expected ON expected.model_id = kept.model_id AND expected.month = kept.month
        WHERE kept IS DISTINCT FROM expected
    ) + (
        SELECT count(*)
        FROM (
            SELECT t.model_id, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms,
                t.cost_usd, h.bins, h.counts
            FROM chat_stats_rollup_lifetime AS t
            CROSS JOIN LATERAL (  -- in which order they are does not matter
                SELECT
                    COALESCE(array_agg(u.bin ORDER BY u.bin), '{}') AS bins,
                    COALESCE(array_agg(u.n ORDER BY u.bin), '{}') AS counts
                FROM unnest(t.bins, t.counts) AS u (bin, n)
            ) AS h
        ) AS kept
        FULL JOIN chat_stats_lifetime_of_months() AS expected ON expected.model_id = kept.model_id
        WHERE kept IS DISTINCT FROM expected
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_tier_drift');
