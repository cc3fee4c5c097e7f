-- In how many places the totals of days, months and lifetime differ from the slots, days and months that they
-- are made of. Bins must ascend: percentiles are read off them as they are.
CREATE OR REPLACE FUNCTION chat_stats_rollup_tier_drift()
RETURNS bigint
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN (
        SELECT count(*)
        FROM (
            SELECT t.model_id, t.day, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms,
                t.cost_usd
            FROM chat_stats_rollup_days AS t
        ) AS kept
        FULL JOIN chat_stats_days_of_slots() AS expected ON expected.model_id = kept.model_id AND expected.day = kept.day
        WHERE kept IS DISTINCT FROM expected
    ) + (
        SELECT count(*)
        FROM (
            SELECT t.model_id, t.month, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms,
                t.cost_usd, t.bins, t.counts
            FROM chat_stats_rollup_months AS t
        ) AS kept
        FULL JOIN chat_stats_months_of_days() AS expected ON expected.model_id = kept.model_id AND expected.month = kept.month
        WHERE kept IS DISTINCT FROM expected
    ) + (
        SELECT count(*)
        FROM (
            SELECT t.model_id, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms,
                t.cost_usd, t.bins, t.counts
            FROM chat_stats_rollup_lifetime AS t
        ) AS kept
        FULL JOIN chat_stats_lifetime_of_months() AS expected ON expected.model_id = kept.model_id
        WHERE kept IS DISTINCT FROM expected
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_tier_drift()');
