-- Makes months and lifetime anew from the days, if they differ; returns in how many places they did.
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
    DELETE FROM chat_stats_rollup_months;
    DELETE FROM chat_stats_rollup_lifetime;
    INSERT INTO chat_stats_rollup_months (model_id, month, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts)
    SELECT s.model_id, s.month, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd, COALESCE(h.bins, '{}'), COALESCE(h.counts, '{}')
    FROM (
        SELECT model_id, chat_stats_month(day) AS month, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd FROM chat_stats_rollup_days GROUP BY 1, 2
    ) AS s
    LEFT JOIN (
        SELECT b.model_id, b.month, array_agg(b.bin ORDER BY b.bin) AS bins, array_agg(b.n ORDER BY b.bin) AS counts
        FROM (
            SELECT d.model_id, chat_stats_month(d.day) AS month, u.bin, sum(u.n)::bigint AS n
            FROM chat_stats_rollup_days AS d CROSS JOIN LATERAL unnest(d.bins, d.counts) AS u (bin, n)
            GROUP BY 1, 2, 3
        ) AS b
        GROUP BY b.model_id, b.month
    ) AS h USING (model_id, month);
    INSERT INTO chat_stats_rollup_lifetime (model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts)
    SELECT s.model_id, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd, COALESCE(h.bins, '{}'), COALESCE(h.counts, '{}')
    FROM (SELECT model_id, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd FROM chat_stats_rollup_days GROUP BY 1) AS s
    LEFT JOIN (
        SELECT b.model_id, array_agg(b.bin ORDER BY b.bin) AS bins, array_agg(b.n ORDER BY b.bin) AS counts
        FROM (
            SELECT m.model_id, u.bin, sum(u.n)::bigint AS n
            FROM chat_stats_rollup_months AS m CROSS JOIN LATERAL unnest(m.bins, m.counts) AS u (bin, n)
            GROUP BY 1, 2
        ) AS b
        GROUP BY b.model_id
    ) AS h USING (model_id);
    RETURN wrong;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_rebuild_tiers');
