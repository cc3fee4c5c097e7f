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
    DELETE FROM chat_stats_rollup_days;
    INSERT INTO chat_stats_rollup_days (
        model_id, day, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
    )
    SELECT * FROM chat_stats_days_of_slots();
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

SELECT chat_stats_adopt_function('chat_stats_rollup_rebuild_tiers()');
