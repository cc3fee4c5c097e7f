-- The numbers of chat_stats_scan(), from the rollup: whole months, days and 15-minute slots, the deltas that
-- are not folded yet, and from the requests themselves only the ragged edges of the range.
SELECT chat_stats_claim_function('chat_stats_rolled_up');

CREATE OR REPLACE FUNCTION chat_stats_rolled_up(
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    model_id chat_completion_requests.model_id%TYPE,
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
    -- In the last bucket that a timestamp reaches there is none: it has no end.
    first_bucket timestamptz := CASE
        WHEN p_start > '294276-12-31T23:45:00Z'::timestamptz THEN 'infinity'
        WHEN p_start > chat_stats_bucket(p_start) THEN chat_stats_bucket(p_start) + interval '15 minutes'
        ELSE COALESCE(p_start, '-infinity')
    END;
    end_bucket timestamptz := COALESCE(chat_stats_bucket(p_end), 'infinity');
    -- The whole days in them: [first_day, end_day); and the whole months in those: [first_month, end_month).
    first_day date := CASE WHEN chat_stats_slot(first_bucket) > 0
        THEN chat_stats_day(first_bucket) + 1 ELSE chat_stats_day(first_bucket) END;
    end_day date := chat_stats_day(end_bucket);
    first_month date := CASE WHEN first_day > chat_stats_month(first_day)
        THEN (chat_stats_month(first_day) + interval '1 month')::date ELSE first_day END;
    end_month date := chat_stats_month(end_day);
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    END IF;
    IF first_bucket >= end_bucket AND p_end IS NOT NULL THEN  -- no whole bucket lies in the range
        RETURN QUERY SELECT * FROM chat_stats_scan(p_start, p_end, p_provider_id, p_model_id);
        RETURN;
    END IF;

    RETURN QUERY
    WITH wanted AS (
        SELECT m.id AS model_id
        FROM models AS m
        WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
    ), parts AS (
        SELECT l.model_id, l.requests, l.successful, l.input_tokens, l.output_tokens, l.timed, l.time_ms, l.cost_usd
        FROM chat_stats_rollup_lifetime AS l
        WHERE p_start IS NULL AND p_end IS NULL
          AND (all_models OR l.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT t.model_id, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms, t.cost_usd
        FROM chat_stats_rollup_months AS t
        WHERE (p_start IS NOT NULL OR p_end IS NOT NULL)
          AND t.month >= first_month AND (t.month < end_month OR p_end IS NULL AND t.month = 'infinity')
          AND t.month <> chat_stats_day(NULL)
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT t.model_id, t.requests, t.successful, t.input_tokens, t.output_tokens, t.timed, t.time_ms, t.cost_usd
        FROM chat_stats_rollup_days AS t
        WHERE (p_start IS NOT NULL OR p_end IS NOT NULL)
          AND t.day >= first_day AND t.day < end_day AND t.day <> chat_stats_day(NULL)
          AND (first_month >= end_month OR t.day < first_month OR t.day >= end_month)
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT t.model_id, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd
        FROM chat_stats_rollup_days AS t
        CROSS JOIN LATERAL unnest(t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens, t.slot_timed, t.slot_time_ms, t.slot_cost_usd)
            AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        WHERE (p_start IS NOT NULL OR p_end IS NOT NULL)
          -- The days that are only partly in the range: the one before first_day, and end_day itself.
          AND (t.day = chat_stats_day(first_bucket) AND t.day < first_day OR t.day = end_day AND end_day >= first_day)
          AND isfinite(t.day)
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
          AND t.day + s.slot * interval '15 minutes' >= first_bucket AT TIME ZONE 'UTC'
          AND t.day + s.slot * interval '15 minutes' < end_bucket AT TIME ZONE 'UTC'
        UNION ALL
        SELECT d.model_id, d.requests, d.successful, d.input_tokens, d.output_tokens, d.timed, d.time_ms, d.cost_usd
        FROM chat_stats_deltas AS d
        WHERE (p_start IS NULL AND p_end IS NULL
               OR d.bucket >= first_bucket AND (d.bucket < end_bucket OR p_end IS NULL))
          AND (all_models OR d.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT e.*
        FROM chat_stats_scan(p_start, first_bucket, p_provider_id, p_model_id) AS e
        WHERE p_start < first_bucket
        UNION ALL
        SELECT e.*
        FROM chat_stats_scan(end_bucket, p_end, p_provider_id, p_model_id) AS e
        WHERE end_bucket < p_end
    )
    SELECT
        p.model_id, sum(p.requests)::bigint, sum(p.successful)::bigint, sum(p.input_tokens),
        sum(p.output_tokens), sum(p.timed)::bigint, sum(p.time_ms), sum(p.cost_usd)
    FROM parts AS p (model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
    GROUP BY p.model_id
    HAVING sum(p.requests) <> 0;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rolled_up');
