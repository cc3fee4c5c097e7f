-- The changes that would make the rollup equal to the requests, as chat_stats_rollup_add() takes them, for the
-- buckets in [p_start, p_end) (the end 'infinity' is included; NULL and NULL: the requests without created_at):
-- what is in the requests and was purged of them, less what is in the rollup and in the deltas.
--
-- A text: as rows of a function, hundreds of thousands of requests would pass through a temporary file. The
-- requests are summed up first, by themselves and in their own types, since that is where nearly all rows are.
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
        sorted AS MATERIALIZED (  -- once, in an order that serves the sums and the histograms
            SELECT
                r.model_id, chat_stats_day(r.bucket) AS day, chat_stats_slot(r.bucket) AS slot,
                chat_stats_bin(r.time_ms) AS bin,
                chat_stats_is_success(r.status::text) AS successful,
                r.input_tokens, r.output_tokens, r.time_ms, r.cost_usd
            FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
            CROSS JOIN LATERAL (
                SELECT
                    model_id, chat_stats_bucket(created_at) AS bucket, status, input_tokens, output_tokens,
                    CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                         THEN processing_time_ms END::numeric AS time_ms,
                    CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                         THEN cost_usd END::numeric AS cost_usd
                FROM chat_completion_requests
                WHERE model_id IS NOT NULL AND %1$s
            ) AS r
            ORDER BY 1, 2, 3, 4
        ), counted AS (
            SELECT
                r.model_id, r.day, r.slot,
                count(*) AS requests,
                count(*) FILTER (WHERE r.successful) AS successful,
                COALESCE(sum(r.input_tokens), 0)::numeric AS input_tokens,
                COALESCE(sum(r.output_tokens), 0)::numeric AS output_tokens,
                count(r.bin) AS timed,
                COALESCE(sum(r.time_ms), 0) AS time_ms,
                COALESCE(sum(r.cost_usd), 0) AS cost_usd
            FROM sorted AS r
            GROUP BY r.model_id, r.day, r.slot
        ), kept AS (
            SELECT
                k.model_id, k.day, k.slot,
                sum(k.requests)::bigint AS requests, sum(k.successful)::bigint AS successful,
                sum(k.input_tokens) AS input_tokens, sum(k.output_tokens) AS output_tokens,
                sum(k.timed)::bigint AS timed, sum(k.time_ms) AS time_ms, sum(k.cost_usd) AS cost_usd
            FROM (
                SELECT
                    t.model_id, t.day, s.slot, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed,
                    s.time_ms, s.cost_usd
                FROM chat_stats_rollup_slots AS t
                CROSS JOIN LATERAL unnest(
                    t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
                    t.slot_timed, t.slot_time_ms, t.slot_cost_usd
                ) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    t.model_id, t.day, s.slot, -s.requests, -s.successful, -s.input_tokens, -s.output_tokens, -s.timed,
                    -s.time_ms, -s.cost_usd
                FROM chat_stats_purged AS t
                CROSS JOIN LATERAL unnest(
                    t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
                    t.slot_timed, t.slot_time_ms, t.slot_cost_usd
                ) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
                WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                UNION ALL
                SELECT
                    d.model_id, chat_stats_day(d.bucket), chat_stats_slot(d.bucket), d.requests, d.successful,
                    d.input_tokens, d.output_tokens, d.timed, d.time_ms, d.cost_usd
                FROM chat_stats_deltas AS d
                WHERE %5$s
            ) AS k
            GROUP BY 1, 2, 3
        ), slot_sums AS MATERIALIZED (
            SELECT *
            FROM (
                SELECT
                    model_id, day, slot,
                    COALESCE(c.requests, 0) - COALESCE(k.requests, 0) AS requests,
                    COALESCE(c.successful, 0) - COALESCE(k.successful, 0) AS successful,
                    COALESCE(c.input_tokens, 0) - COALESCE(k.input_tokens, 0) AS input_tokens,
                    COALESCE(c.output_tokens, 0) - COALESCE(k.output_tokens, 0) AS output_tokens,
                    COALESCE(c.timed, 0) - COALESCE(k.timed, 0) AS timed,
                    COALESCE(c.time_ms, 0) - COALESCE(k.time_ms, 0) AS time_ms,
                    COALESCE(c.cost_usd, 0) - COALESCE(k.cost_usd, 0) AS cost_usd
                FROM counted AS c
                FULL JOIN kept AS k USING (model_id, day, slot)
            ) AS s
            WHERE (requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
                <> (0, 0, 0, 0, 0, 0, 0)
        ), cells AS MATERIALIZED (
            SELECT *
            FROM (
                SELECT model_id, day, slot, bin, COALESCE(c.n, 0) - COALESCE(k.n, 0) AS n
                FROM (
                    SELECT r.model_id, r.day, r.slot, r.bin, count(*) AS n
                    FROM sorted AS r
                    WHERE r.bin IS NOT NULL
                    GROUP BY r.model_id, r.day, r.slot, r.bin
                ) AS c
                FULL JOIN (
                    SELECT b.model_id, b.day, b.slot, b.bin, sum(b.n)::bigint AS n
                    FROM (
                        SELECT t.model_id, t.day, s.slot, s.bin, s.n
                        FROM chat_stats_rollup_slots AS t
                        CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                        WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                        UNION ALL
                        SELECT t.model_id, t.day, s.slot, s.bin, -s.n
                        FROM chat_stats_purged AS t
                        CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
                        WHERE t.day BETWEEN %3$L AND %4$L AND %2$s
                        UNION ALL
                        SELECT
                            d.model_id, chat_stats_day(d.bucket), chat_stats_slot(d.bucket),
                            chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END), d.timed
                        FROM chat_stats_deltas AS d
                        WHERE d.times IS NULL AND d.timed <> 0 AND %5$s
                        UNION ALL
                        SELECT
                            d.model_id, chat_stats_day(d.bucket), chat_stats_slot(d.bucket),
                            chat_stats_bin(u.time_ms), sign(d.timed)::bigint
                        FROM chat_stats_deltas AS d
                        CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                        WHERE d.times IS NOT NULL AND %5$s
                    ) AS b
                    GROUP BY b.model_id, b.day, b.slot, b.bin
                ) AS k USING (model_id, day, slot, bin)
            ) AS b
            WHERE b.n <> 0
        ), differing AS (
            SELECT 1 FROM slot_sums
            UNION ALL
            SELECT 1
            FROM (
                SELECT DISTINCT c.model_id, c.day, c.slot
                FROM cells AS c
                WHERE NOT EXISTS (
                    SELECT FROM slot_sums AS s
                    WHERE s.model_id = c.model_id AND s.day = c.day AND s.slot = c.slot
                )
            ) AS only_in_the_histogram
        )
        $changes$,
        format(in_range, 'created_at'),
        -- (Where somebody made the arrays of unequal length, there are numbers without a slot: they are to go.)
        format(in_range, 'chat_stats_bucket_at(t.day, COALESCE(s.slot, 0::smallint))'),
        chat_stats_day(p_start), chat_stats_day(p_end), format(in_range, 'd.bucket')
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_changes(timestamptz, timestamptz)');
