-- In how many places the months and the lifetime differ from the days that they are made of.
CREATE OR REPLACE FUNCTION chat_stats_rollup_tier_drift()
RETURNS bigint
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN (
        SELECT count(*) FROM (
            SELECT d.model_id, chat_stats_month(d.day), sum(d.requests), sum(d.successful), sum(d.input_tokens), sum(d.output_tokens), sum(d.timed), sum(d.time_ms), sum(d.cost_usd)
            FROM chat_stats_rollup_days AS d GROUP BY 1, 2
            EXCEPT SELECT m.model_id, m.month, m.requests, m.successful, m.input_tokens, m.output_tokens, m.timed, m.time_ms, m.cost_usd FROM chat_stats_rollup_months AS m
        ) AS wrong_months
    ) + (
        SELECT count(*) FROM (
            SELECT d.model_id, sum(d.requests), sum(d.successful), sum(d.input_tokens), sum(d.output_tokens), sum(d.timed), sum(d.time_ms), sum(d.cost_usd)
            FROM chat_stats_rollup_days AS d GROUP BY 1
            EXCEPT SELECT l.model_id, l.requests, l.successful, l.input_tokens, l.output_tokens, l.timed, l.time_ms, l.cost_usd FROM chat_stats_rollup_lifetime AS l
        ) AS wrong_lifetimes
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_tier_drift');
