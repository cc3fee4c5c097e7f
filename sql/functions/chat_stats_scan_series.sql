-- Totals per model and interval over [p_start, p_end), from the requests themselves and what is kept of those that
-- were purged (whose buckets count as a whole where they begin).
SELECT chat_stats_claim_function('chat_stats_scan_series');

SELECT chat_stats_install('chat_stats_scan_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_scan_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    total_requests bigint,
    successful_requests bigint,
    total_input_tokens numeric,
    total_output_tokens numeric,
    timed_requests bigint,
    total_processing_time_ms numeric,
    total_cost_usd numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        t.interval_start, t.model_id, sum(t.requests)::bigint, sum(t.successful)::bigint, sum(t.input_tokens),
        sum(t.output_tokens), sum(t.timed)::bigint, sum(t.time_ms), sum(t.cost_usd)
    FROM (
        SELECT
            u.interval_start,
            u.model_id,
            u.requests,
            CASE WHEN stats_schema.chat_stats_is_success(concat(u.status)) THEN u.requests ELSE 0 END AS successful,
            COALESCE(u.input_tokens, 0) AS input_tokens,
            COALESCE(u.output_tokens, 0) AS output_tokens,
            u.timed,
            COALESCE(u.time_ms, 0) AS time_ms,
            COALESCE(u.cost_usd, 0) AS cost_usd
        FROM (
            SELECT
                stats_schema.chat_stats_interval_start(p_interval,
                stats_schema.chat_stats_bucket(r.created_at::timestamptz), p_timezone) AS interval_start,
                r.model_id,
                r.status,
                count(*) AS requests,
                sum(r.input_tokens)::numeric AS input_tokens,
                sum(r.output_tokens)::numeric AS output_tokens,
                -- (The bounds as in chat_stats_scan().)
                count(*) FILTER (
                    WHERE r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                ) AS timed,
                sum(r.processing_time_ms) FILTER (
                    WHERE r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                )::numeric AS time_ms,
                sum(r.cost_usd) FILTER (
                    WHERE r.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                )::numeric AS cost_usd
            FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- stands in for the column where it is missing
            CROSS JOIN LATERAL (
                SELECT model_id, created_at, status, input_tokens, output_tokens, processing_time_ms, readable.cost_usd
                FROM gateway_schema.chat_completion_requests
                WHERE created_at >= p_start AND created_at < p_end
                  AND (p_provider_id IS NULL AND p_model_id IS NULL
                       OR model_id = ANY (ARRAY(
                           SELECT m.id FROM gateway_schema.models AS m
                           WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                             AND (p_model_id IS NULL OR m.id::text = p_model_id)
                       )))
            ) AS r
            WHERE r.model_id IS NOT NULL
            GROUP BY 1, 2, 3
        ) AS u
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
        WHERE p_provider_id IS NULL AND p_model_id IS NULL
           OR s.model_id IN (
               SELECT m.id FROM gateway_schema.models AS m
               WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                 AND (p_model_id IS NULL OR m.id::text = p_model_id)
           )
    ) AS t
    GROUP BY 1, 2
    HAVING sum(t.requests) <> 0;
END
$function$;
$install$);
