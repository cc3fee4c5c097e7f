-- Moves the deltas into days, months and lifetime, in one statement: whoever reads sees each delta once,
-- before or after. Returns how many there were; 0 also when somebody else is folding.
CREATE OR REPLACE FUNCTION chat_stats_fold()
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    folded bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1668510835, 3) THEN
        RETURN 0;
    END IF;

    WITH moved AS (
        DELETE FROM chat_stats_deltas RETURNING *
    ), placed AS (
        SELECT
            d.*,
            chat_stats_day(d.bucket) AS day,
            chat_stats_slot(d.bucket) AS slot
        FROM moved AS d
    ), slot_sums AS (
        SELECT model_id, day, slot, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd
        FROM placed
        GROUP BY model_id, day, slot
    ), slot_bins AS (
        SELECT model_id, day, slot, bin, sum(n)::bigint AS n
        FROM (
            SELECT p.model_id, p.day, p.slot, chat_stats_bin(u.time_ms) AS bin, sign(p.requests) AS n
            FROM placed AS p CROSS JOIN LATERAL unnest(p.times) AS u (time_ms)
            UNION ALL
            SELECT p.model_id, p.day, p.slot, u.bin, u.n
            FROM placed AS p CROSS JOIN LATERAL unnest(p.bins, p.counts) AS u (bin, n)
        ) AS b
        GROUP BY model_id, day, slot, bin
        HAVING sum(n) <> 0
    ), day_sums AS (
        SELECT
            model_id, day, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd,
            array_agg(slot ORDER BY slot) AS slots,
            array_agg(requests::bigint ORDER BY slot) AS slot_requests,
            array_agg(successful::bigint ORDER BY slot) AS slot_successful,
            array_agg(input_tokens ORDER BY slot) AS slot_input_tokens,
            array_agg(output_tokens ORDER BY slot) AS slot_output_tokens,
            array_agg(timed::bigint ORDER BY slot) AS slot_timed,
            array_agg(time_ms ORDER BY slot) AS slot_time_ms,
            array_agg(cost_usd ORDER BY slot) AS slot_cost_usd
        FROM slot_sums
        GROUP BY model_id, day
    ), day_bins AS (
        SELECT
            model_id, day,
            array_agg(slot ORDER BY slot, bin) AS bin_slots,
            array_agg(bin ORDER BY slot, bin) AS bins,
            array_agg(n ORDER BY slot, bin) AS counts
        FROM slot_bins
        GROUP BY model_id, day
    ), month_bins AS (
        SELECT model_id, month, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM (
            SELECT model_id, chat_stats_month(day) AS month, bin, sum(n)::bigint AS n
            FROM slot_bins GROUP BY 1, 2, 3 HAVING sum(n) <> 0
        ) AS b
        GROUP BY model_id, month
    ), lifetime_bins AS (
        SELECT model_id, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM (SELECT model_id, bin, sum(n)::bigint AS n FROM slot_bins GROUP BY 1, 2 HAVING sum(n) <> 0) AS b
        GROUP BY model_id
    ), days AS (
        INSERT INTO chat_stats_rollup_days AS t (
            model_id, day, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd,
            slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens, slot_timed, slot_time_ms, slot_cost_usd,
            bin_slots, bins, counts
        )
        SELECT
            s.model_id, s.day, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd,
            s.slots, s.slot_requests, s.slot_successful, s.slot_input_tokens, s.slot_output_tokens, s.slot_timed, s.slot_time_ms, s.slot_cost_usd,
            COALESCE(b.bin_slots, '{}'), COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM day_sums AS s
        LEFT JOIN day_bins AS b USING (model_id, day)
        ON CONFLICT (model_id, day) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd,
            (slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens, slot_timed, slot_time_ms, slot_cost_usd) = (
                SELECT
                    COALESCE(array_agg(m.slot ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.requests::bigint ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.successful::bigint ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.input_tokens ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.output_tokens ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.timed::bigint ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.time_ms ORDER BY m.slot), '{}'),
                    COALESCE(array_agg(m.cost_usd ORDER BY m.slot), '{}')
                FROM (
                    SELECT u.slot, sum(u.requests) AS requests, sum(u.successful) AS successful, sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens, sum(u.timed) AS timed, sum(u.time_ms) AS time_ms, sum(u.cost_usd) AS cost_usd
                    FROM (
                        SELECT * FROM unnest(t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens, t.slot_timed, t.slot_time_ms, t.slot_cost_usd)
                        UNION ALL
                        SELECT * FROM unnest(excluded.slots, excluded.slot_requests, excluded.slot_successful, excluded.slot_input_tokens, excluded.slot_output_tokens, excluded.slot_timed, excluded.slot_time_ms, excluded.slot_cost_usd)
                    ) AS u (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
                    GROUP BY u.slot
                    HAVING sum(u.requests) <> 0 OR sum(u.successful) <> 0 OR sum(u.input_tokens) <> 0 OR sum(u.output_tokens) <> 0 OR sum(u.timed) <> 0 OR sum(u.time_ms) <> 0 OR sum(u.cost_usd) <> 0
                ) AS m
            ),
            (bin_slots, bins, counts) = (
                SELECT
                    COALESCE(array_agg(m.slot ORDER BY m.slot, m.bin), '{}'),
                    COALESCE(array_agg(m.bin ORDER BY m.slot, m.bin), '{}'),
                    COALESCE(array_agg(m.n ORDER BY m.slot, m.bin), '{}')
                FROM (
                    SELECT u.slot, u.bin, sum(u.n)::bigint AS n
                    FROM (
                        SELECT * FROM unnest(t.bin_slots, t.bins, t.counts)
                        UNION ALL
                        SELECT * FROM unnest(excluded.bin_slots, excluded.bins, excluded.counts)
                    ) AS u (slot, bin, n)
                    GROUP BY u.slot, u.bin
                    HAVING sum(u.n) <> 0
                ) AS m
            )
    ), months AS (
        INSERT INTO chat_stats_rollup_months AS t (model_id, month, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts)
        SELECT s.model_id, s.month, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd, COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM (
            SELECT model_id, chat_stats_month(day) AS month, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd
            FROM slot_sums
            GROUP BY 1, 2
        ) AS s
        LEFT JOIN month_bins AS b USING (model_id, month)
        ON CONFLICT (model_id, month) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd,
            (bins, counts) = (
                SELECT COALESCE(array_agg(h.bin ORDER BY h.bin), '{}'), COALESCE(array_agg(h.n ORDER BY h.bin), '{}')
                FROM (
                    SELECT b.bin, sum(b.n)::bigint AS n
                    FROM (
                        SELECT * FROM unnest(t.bins, t.counts)
                        UNION ALL
                        SELECT * FROM unnest(excluded.bins, excluded.counts)
                    ) AS b (bin, n)
                    GROUP BY b.bin
                    HAVING sum(b.n) <> 0
                ) AS h
            )
    ), lifetime AS (
        INSERT INTO chat_stats_rollup_lifetime AS t (model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts)
        SELECT s.model_id, s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd, COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM (SELECT model_id, sum(requests) AS requests, sum(successful) AS successful, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd FROM slot_sums GROUP BY model_id) AS s
        LEFT JOIN lifetime_bins AS b USING (model_id)
        ON CONFLICT (model_id) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd,
            (bins, counts) = (
                SELECT COALESCE(array_agg(h.bin ORDER BY h.bin), '{}'), COALESCE(array_agg(h.n ORDER BY h.bin), '{}')
                FROM (
                    SELECT b.bin, sum(b.n)::bigint AS n
                    FROM (
                        SELECT * FROM unnest(t.bins, t.counts)
                        UNION ALL
                        SELECT * FROM unnest(excluded.bins, excluded.counts)
                    ) AS b (bin, n)
                    GROUP BY b.bin
                    HAVING sum(b.n) <> 0
                ) AS h
            )
    )
    SELECT count(*) INTO folded FROM moved;

    UPDATE chat_stats_rollup_state SET folded_at = clock_timestamp();
    RETURN folded;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_fold');
