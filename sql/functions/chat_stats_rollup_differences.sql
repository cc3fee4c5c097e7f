-- By how much the rollup differs from the requests: a row for each model and bucket in [p_start, p_end) where it
-- does, to be added to the rollup. The end 'infinity' is included. NULL and NULL: requests without created_at.
SELECT chat_stats_claim_function('chat_stats_rollup_differences');

CREATE OR REPLACE FUNCTION chat_stats_rollup_differences(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id chat_completion_requests.model_id%TYPE,
    bucket timestamptz,
    requests bigint,
    successful bigint,
    input_tokens numeric,
    output_tokens numeric,
    timed bigint,
    time_ms numeric,
    cost_usd numeric,
    bins smallint[],
    counts bigint[]
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    first_day date := chat_stats_day(p_start);
    last_day date := chat_stats_day(p_end);
BEGIN
    RETURN QUERY
    WITH raw AS MATERIALIZED (
        SELECT
            r.model_id,
            chat_stats_bucket(r.created_at) AS bucket,
            CASE WHEN chat_stats_is_success(r.status::text) THEN 1 ELSE 0 END AS successful,
            COALESCE(r.input_tokens, 0)::numeric AS input_tokens,
            COALESCE(r.output_tokens, 0)::numeric AS output_tokens,
            CASE WHEN r.processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                 THEN r.processing_time_ms END::numeric AS time_ms,
            CASE WHEN r.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                 THEN r.cost_usd END::numeric AS cost_usd
        FROM (SELECT NULL::numeric AS cost_usd) AS absent
        CROSS JOIN LATERAL (
            SELECT model_id, created_at, status, input_tokens, output_tokens, processing_time_ms, cost_usd
            FROM chat_completion_requests
            WHERE model_id IS NOT NULL
              AND (created_at >= p_start AND (created_at < p_end OR p_end = 'infinity') OR p_start IS NULL AND created_at IS NULL)
        ) AS r
    ), days AS MATERIALIZED (
        SELECT t.*
        FROM chat_stats_rollup_days AS t
        WHERE t.day BETWEEN first_day AND last_day
    ), deltas AS MATERIALIZED (
        SELECT d.*
        FROM chat_stats_deltas AS d
        WHERE d.bucket >= p_start AND (d.bucket < p_end OR p_end = 'infinity') OR p_start IS NULL AND d.bucket IS NULL
    ), sums AS (
        SELECT a.model_id, a.bucket, sum(a.requests) AS requests, sum(a.successful) AS successful, sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.timed) AS timed, sum(a.time_ms) AS time_ms, sum(a.cost_usd) AS cost_usd
        FROM (
            SELECT
                r.model_id, r.bucket, count(*), sum(r.successful), sum(r.input_tokens), sum(r.output_tokens),
                count(r.time_ms), COALESCE(sum(r.time_ms), 0), COALESCE(sum(r.cost_usd), 0)
            FROM raw AS r
            GROUP BY r.model_id, r.bucket
            UNION ALL
            SELECT t.model_id, chat_stats_bucket_at(t.day, s.slot), -s.requests, -s.successful, -s.input_tokens, -s.output_tokens, -s.timed, -s.time_ms, -s.cost_usd
            FROM days AS t
            CROSS JOIN LATERAL unnest(t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens, t.slot_timed, t.slot_time_ms, t.slot_cost_usd)
                AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
            UNION ALL
            SELECT d.model_id, d.bucket, -d.requests, -d.successful, -d.input_tokens, -d.output_tokens, -d.timed, -d.time_ms, -d.cost_usd
            FROM deltas AS d
        ) AS a (model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        WHERE a.bucket >= p_start AND (a.bucket < p_end OR p_end = 'infinity') OR p_start IS NULL AND a.bucket IS NULL
        GROUP BY a.model_id, a.bucket
    ), histogram AS (
        SELECT b.model_id, b.bucket, array_agg(b.bin ORDER BY b.bin) AS bins, array_agg(b.n ORDER BY b.bin) AS counts
        FROM (
            SELECT a.model_id, a.bucket, a.bin, sum(a.n)::bigint AS n
            FROM (
                SELECT r.model_id, r.bucket, chat_stats_bin(r.time_ms), 1
                FROM raw AS r
                WHERE r.time_ms IS NOT NULL
                UNION ALL
                SELECT t.model_id, chat_stats_bucket_at(t.day, s.slot), s.bin, -s.n
                FROM days AS t CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                UNION ALL
                SELECT d.model_id, d.bucket, chat_stats_bin(u.time_ms), -sign(d.requests)
                FROM deltas AS d CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                UNION ALL
                SELECT d.model_id, d.bucket, u.bin, -u.n
                FROM deltas AS d CROSS JOIN LATERAL unnest(d.bins, d.counts) AS u (bin, n)
            ) AS a (model_id, bucket, bin, n)
            WHERE a.bucket >= p_start AND (a.bucket < p_end OR p_end = 'infinity') OR p_start IS NULL AND a.bucket IS NULL
            GROUP BY a.model_id, a.bucket, a.bin
            HAVING sum(a.n) <> 0
        ) AS b
        GROUP BY b.model_id, b.bucket
    )
    SELECT
        s.model_id, s.bucket, s.requests::bigint, s.successful::bigint, s.input_tokens, s.output_tokens,
        s.timed::bigint, s.time_ms, s.cost_usd, h.bins, h.counts
    FROM sums AS s
    LEFT JOIN histogram AS h
        -- Within one call either all buckets are NULL or none: the stand-in only makes them comparable.
        ON h.model_id = s.model_id AND COALESCE(h.bucket, 'epoch') = COALESCE(s.bucket, 'epoch')
    WHERE s.requests <> 0 OR s.successful <> 0 OR s.input_tokens <> 0 OR s.output_tokens <> 0 OR s.timed <> 0 OR s.time_ms <> 0 OR s.cost_usd <> 0 OR h.bins IS NOT NULL;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_differences');
