-- Totals of all requests in [p_start, p_end), whether their models exist or not: always one row. success_rate is a
-- share of total_requests, from 0 to 1; pending_requests neither succeeded nor failed yet. total_cost_usd is NULL
-- where the requests have no cost_usd column.
SELECT chat_stats_claim_function('get_chat_request_summary');

SELECT chat_stats_install('get_chat_request_summary', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_chat_request_summary(
    p_start timestamptz DEFAULT NULL, p_end timestamptz DEFAULT NULL
)
RETURNS TABLE (
    total_requests bigint,
    successful_requests bigint,
    failed_requests bigint,
    pending_requests bigint,
    success_rate numeric,
    total_input_tokens bigint,
    total_output_tokens bigint,
    total_tokens bigint,
    avg_processing_time_ms numeric,
    total_cost_usd numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        t.requests,
        t.successful,
        t.requests - t.successful - t.pending,
        t.pending,
        CASE WHEN t.requests > 0 THEN round(t.successful::numeric / t.requests, 4) ELSE 0 END,
        stats_schema.chat_stats_saturate(t.input_tokens),
        stats_schema.chat_stats_saturate(t.output_tokens),
        stats_schema.chat_stats_saturate(t.input_tokens + t.output_tokens),
        stats_schema.chat_stats_mean(t.processing_time_ms, t.timed),
        t.cost_usd
    FROM (
        SELECT
            COALESCE(sum(u.total_requests), 0)::bigint AS requests,
            COALESCE(sum(u.successful_requests), 0)::bigint AS successful,
            COALESCE(sum(u.pending_requests), 0)::bigint AS pending,
            COALESCE(sum(u.total_input_tokens), 0) AS input_tokens,
            COALESCE(sum(u.total_output_tokens), 0) AS output_tokens,
            COALESCE(sum(u.total_processing_time_ms), 0) AS processing_time_ms,
            COALESCE(sum(u.timed_requests), 0)::bigint AS timed,
            CASE WHEN stats_schema.chat_stats_has_cost() THEN COALESCE(sum(u.total_cost_usd), 0) END AS cost_usd
        FROM stats_schema.chat_stats_total(p_start, p_end) AS u
    ) AS t;
END
$function$;
$install$);
