-- The numbers of chat_stats_scan_series(), from the rollup: days, the slots of those that lie in several intervals or
-- at the edges, the deltas that are not folded yet, and from the requests themselves only the ragged edges.
SELECT chat_stats_claim_function('chat_stats_rolled_up_series');

CREATE OR REPLACE FUNCTION chat_stats_rolled_up_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id chat_stats_deltas.model_id%TYPE,
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
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    -- The whole buckets: [first_bucket, end_bucket).
    first_bucket timestamptz := LEAST(p_end, CASE
        WHEN p_start > chat_stats_bucket(p_start) THEN chat_stats_bucket(p_start) + interval '15 minutes'
        ELSE p_start END);
    end_bucket timestamptz := LEAST(p_end, GREATEST(chat_stats_bucket(p_end), first_bucket));
BEGIN
    RETURN QUERY
    WITH wanted AS (
        SELECT m.id AS model_id
        FROM models AS m
        WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
    ), days AS (
        -- A day that lies in one interval as a whole counts by its totals; of the others each slot counts.
        SELECT t.*, d.starts >= first_bucket AND d.ends <= end_bucket
            AND chat_stats_interval_start(p_interval, d.starts, p_timezone)
                = chat_stats_interval_start(p_interval, d.ends - interval '15 minutes', p_timezone) AS whole
        FROM chat_stats_rollup_days AS t
        CROSS JOIN LATERAL (
            SELECT t.day::timestamp AT TIME ZONE 'UTC' AS starts, (t.day + 1)::timestamp AT TIME ZONE 'UTC' AS ends
        ) AS d
        WHERE first_bucket < end_bucket
          AND t.day BETWEEN chat_stats_day(first_bucket) AND chat_stats_day(end_bucket)
          AND t.model_id IN (SELECT w.model_id FROM wanted AS w)
    ), parts AS (
        SELECT
            chat_stats_interval_start(p_interval, t.day::timestamp AT TIME ZONE 'UTC', p_timezone), t.model_id,
            t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms, t.cost_usd
        FROM days AS t
        WHERE t.whole
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, chat_stats_bucket_at(t.day, s.slot), p_timezone), t.model_id,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM days AS d
        JOIN chat_stats_rollup_slots AS t ON t.model_id = d.model_id AND t.day = d.day
        CROSS JOIN LATERAL unnest(t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens, t.slot_timed, t.slot_time_ms, t.slot_cost_usd)
            AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        WHERE NOT d.whole
          AND chat_stats_bucket_at(t.day, s.slot) >= first_bucket
          AND chat_stats_bucket_at(t.day, s.slot) < end_bucket
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, d.bucket, p_timezone), d.model_id,
            d.requests, d.successful, d.input_tokens, d.output_tokens, d.timed, d.time_ms, d.cost_usd
        FROM chat_stats_deltas AS d
        WHERE d.bucket >= first_bucket AND d.bucket < end_bucket
          AND d.model_id IN (SELECT w.model_id FROM wanted AS w)
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, chat_stats_bucket(r.created_at), p_timezone), r.model_id,
            1, CASE WHEN chat_stats_is_success(r.status::text) THEN 1 ELSE 0 END,
            COALESCE(r.input_tokens, 0), COALESCE(r.output_tokens, 0),
            CASE WHEN r.time_ms IS NULL THEN 0 ELSE 1 END, COALESCE(r.time_ms, 0), COALESCE(r.cost_usd, 0)
        FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- stands in for the column where it is missing
        CROSS JOIN LATERAL (
            SELECT
                model_id, created_at, status, input_tokens, output_tokens,
                CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                     THEN processing_time_ms END::numeric AS time_ms,
                CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                     THEN cost_usd END::numeric AS cost_usd
            FROM (  -- apart: with OR, an index on model and time would be read for all times of the model
                SELECT * FROM chat_completion_requests WHERE created_at >= p_start AND created_at < first_bucket
                UNION ALL
                SELECT * FROM chat_completion_requests WHERE created_at >= end_bucket AND created_at < p_end
            ) AS edges
            WHERE model_id IN (SELECT w.model_id FROM wanted AS w)
        ) AS r
        UNION ALL
        -- A bucket that was purged counts as a whole where it begins.
        SELECT
            chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM chat_stats_purged_slots(end_bucket, p_end) AS s
        WHERE s.model_id IN (SELECT w.model_id FROM wanted AS w)
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM chat_stats_purged_slots(p_start, first_bucket) AS s
        WHERE s.model_id IN (SELECT w.model_id FROM wanted AS w)
    )
    SELECT
        p.interval_start, p.model_id, sum(p.requests)::bigint, sum(p.successful)::bigint, sum(p.input_tokens),
        sum(p.output_tokens), sum(p.timed)::bigint, sum(p.time_ms), sum(p.cost_usd)
    FROM parts AS p (interval_start, model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
    GROUP BY p.interval_start, p.model_id
    HAVING sum(p.requests) <> 0;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rolled_up_series');
