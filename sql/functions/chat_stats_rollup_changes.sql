-- The query for the changes that would make the rollup equal to the requests, as chat_stats_rollup_add() takes
-- them, for the buckets in [p_start, p_end) (the end 'infinity' is included; NULL and NULL: the requests without
-- created_at): what is in the requests and was purged of them, less what is in the rollup and in the deltas.
--
-- A text: as rows of a function, hundreds of thousands of requests would pass through a temporary file. All
-- parts of the UNION have the same types to the letter: only then are they appended without another pass.
CREATE OR REPLACE FUNCTION chat_stats_rollup_changes(p_start timestamptz, p_end timestamptz)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
DECLARE
    in_range text := CASE
        WHEN p_start IS NULL THEN '%1$s IS NULL'
        WHEN p_end = 'infinity' THEN format('%%1$s >= %L::timestamptz', p_start)
        ELSE format('%%1$s >= %L::timestamptz AND %%1$s < %L::timestamptz', p_start, p_end)
    END;
BEGIN
    RETURN format(
        $changes$
            SELECT
                r.model_id, chat_stats_bucket(r.created_at) AS bucket, chat_stats_bin(r.time_ms) AS bin,
                1::bigint AS requests,
                CASE WHEN chat_stats_is_success(r.status::text) THEN 1::bigint ELSE 0 END AS successful,
                COALESCE(r.input_tokens, 0)::numeric AS input_tokens,
                COALESCE(r.output_tokens, 0)::numeric AS output_tokens,
                CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE 1 END AS timed,
                COALESCE(r.time_ms, 0) AS time_ms, COALESCE(r.cost_usd, 0) AS cost_usd,
                CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE 1 END AS n
            FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
            CROSS JOIN LATERAL (
                SELECT
                    model_id, created_at, status, input_tokens, output_tokens,
                    CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                         THEN processing_time_ms END::numeric AS time_ms,
                    CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                         THEN cost_usd END::numeric AS cost_usd
                FROM chat_completion_requests
                WHERE model_id IS NOT NULL AND %1$s
            ) AS r
            UNION ALL
            SELECT
                t.model_id, chat_stats_bucket_at(t.day, s.slot), NULL::smallint,
                -s.requests, -s.successful, -s.input_tokens, -s.output_tokens, -s.timed, -s.time_ms,
                -s.cost_usd, 0::bigint
            FROM chat_stats_rollup_days AS t
            CROSS JOIN LATERAL unnest(
                t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
                t.slot_timed, t.slot_time_ms, t.slot_cost_usd
            ) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
            WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
            UNION ALL
            SELECT t.model_id, chat_stats_bucket_at(t.day, s.slot), s.bin,
                0::bigint, 0::bigint, 0::numeric, 0::numeric, 0::bigint, 0::numeric, 0::numeric, -s.n
            FROM chat_stats_rollup_days AS t
            CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
            WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
            UNION ALL
            SELECT
                t.model_id, chat_stats_bucket_at(t.day, s.slot), NULL::smallint,
                s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd, 0::bigint
            FROM chat_stats_purged AS t
            CROSS JOIN LATERAL unnest(
                t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
                t.slot_timed, t.slot_time_ms, t.slot_cost_usd
            ) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
            WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
            UNION ALL
            SELECT t.model_id, chat_stats_bucket_at(t.day, s.slot), s.bin,
                0::bigint, 0::bigint, 0::numeric, 0::numeric, 0::bigint, 0::numeric, 0::numeric, s.n
            FROM chat_stats_purged AS t
            CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
            WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
            UNION ALL
            SELECT
                d.model_id, d.bucket,
                CASE WHEN d.times IS NULL AND d.timed <> 0
                     THEN chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END) END,
                -d.requests, -d.successful, -d.input_tokens, -d.output_tokens, -d.timed, -d.time_ms, -d.cost_usd,
                CASE WHEN d.times IS NULL THEN -d.timed ELSE 0 END
            FROM chat_stats_deltas AS d
            WHERE %5$s
            UNION ALL
            SELECT
                d.model_id, d.bucket, chat_stats_bin(u.time_ms),
                0::bigint, 0::bigint, 0::numeric, 0::numeric, 0::bigint, 0::numeric, 0::numeric,
                -sign(d.timed)::bigint
            FROM chat_stats_deltas AS d
            CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
            WHERE d.times IS NOT NULL AND %5$s
        $changes$,
        format(in_range, 'created_at'), format(in_range, 'chat_stats_bucket_at(t.day, s.slot)'),
        chat_stats_day(p_start), chat_stats_day(p_end), format(in_range, 'd.bucket')
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_changes');
