-- Totals per model over [p_start, p_end), from the requests themselves and what is kept of those that were
-- purged (whose buckets count as a whole where they begin). p_provider_id and p_model_id (as
-- text, since ids may be uuid, int or bigint) narrow it down.
SELECT chat_stats_claim_function('chat_stats_scan');

SELECT chat_stats_install('chat_stats_scan', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_scan(
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
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
        t.model_id, sum(t.requests)::bigint, sum(t.successful)::bigint, sum(t.input_tokens), sum(t.output_tokens),
        sum(t.timed)::bigint, sum(t.time_ms), sum(t.cost_usd)
    FROM (
        SELECT
            u.model_id,
            sum(u.requests)::bigint AS requests,
            COALESCE(sum(u.requests) FILTER (
                WHERE stats_schema.chat_stats_is_success(concat(u.status))
            ), 0)::bigint AS successful,
            COALESCE(sum(u.input_tokens), 0) AS input_tokens,
            COALESCE(sum(u.output_tokens), 0) AS output_tokens,
            sum(u.timed)::bigint AS timed,
            COALESCE(sum(u.time_ms), 0) AS time_ms,
            COALESCE(sum(u.cost_usd), 0) AS cost_usd
        FROM (
            SELECT
                r.model_id,
                r.status,
                count(*) AS requests,
                sum(r.input_tokens)::numeric AS input_tokens,
                sum(r.output_tokens)::numeric AS output_tokens,
                -- NaN, infinities and what is beyond reason are no times and no costs. (These bounds suit each
                -- type, and a comparison costs less than arithmetic.)
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
                SELECT model_id, status, input_tokens, output_tokens, processing_time_ms, readable.cost_usd
                FROM gateway_schema.chat_completion_requests
                WHERE (p_start IS NULL OR created_at >= p_start)
                  AND (p_end IS NULL OR created_at < p_end)
                  AND (p_provider_id IS NULL AND p_model_id IS NULL
                       OR model_id = ANY (ARRAY(
                           SELECT m.id FROM gateway_schema.models AS m
                           WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                             AND (p_model_id IS NULL OR m.id::text = p_model_id)
                       )))
            ) AS r
            WHERE r.model_id IS NOT NULL
            GROUP BY r.model_id, r.status
        ) AS u
        GROUP BY u.model_id
        UNION ALL
        SELECT
            s.model_id, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
        WHERE p_provider_id IS NULL AND p_model_id IS NULL
           OR s.model_id IN (
               SELECT m.id FROM gateway_schema.models AS m
               WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
                 AND (p_model_id IS NULL OR m.id::text = p_model_id)
           )
    ) AS t
    GROUP BY t.model_id
    HAVING sum(t.requests) <> 0;
END
$function$;
$install$);
