-- Makes the totals of days, months and lifetime anew, if they differ from the slots, days and months that they are
-- made of; returns in how many places they did.
CREATE OR REPLACE FUNCTION chat_stats_rollup_rebuild_tiers()
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    wrong bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(1668510835, 3);  -- that of chat_stats_fold()
    wrong := chat_stats_rollup_tier_drift();
    IF wrong = 0 THEN
        RETURN 0;
    END IF;
    UPDATE chat_stats_rollup_days AS d
    SET (requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd) = (
        SELECT
            COALESCE(sum(u.requests), 0) AS requests, COALESCE(sum(u.successful), 0) AS successful,
            COALESCE(sum(u.input_tokens), 0) AS input_tokens,
            COALESCE(sum(u.output_tokens), 0) AS output_tokens, COALESCE(sum(u.timed), 0) AS timed,
            COALESCE(sum(u.time_ms), 0) AS time_ms, COALESCE(sum(u.cost_usd), 0) AS cost_usd
        FROM unnest(
            d.slot_requests, d.slot_successful, d.slot_input_tokens, d.slot_output_tokens,
            d.slot_timed, d.slot_time_ms, d.slot_cost_usd
        ) AS u (requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
    );
    DELETE FROM chat_stats_rollup_months;
    INSERT INTO chat_stats_rollup_months (
        model_id, month, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts
    )
    SELECT * FROM chat_stats_months_of_days();
    DELETE FROM chat_stats_rollup_lifetime;
    INSERT INTO chat_stats_rollup_lifetime (
        model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts
    )
    SELECT * FROM chat_stats_lifetime_of_months();
    RETURN wrong;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_rebuild_tiers');
