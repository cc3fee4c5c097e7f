-- Adds changes to slots, days, months and lifetime, in one statement: whoever reads sees each of them once, before
-- or after. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that has `slot_sums` (the changes of a model's sums in a slot of a day:
-- one row for each, none that is all zeros) and `cells` (those of the histogram: one row for each model, day, slot
-- and bin, with the change `n` of the count, not 0). A text, so that the sources of changes (deltas that are moved,
-- differences that are repaired) share what becomes of them, and each is planned for its own size.
--
-- The caller holds the lock that keeps two of these apart: see chat_stats_fold() and chat_stats_rollup_repair().
CREATE OR REPLACE FUNCTION chat_stats_rollup_add(p_changes text, p_counted text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    counted bigint;
BEGIN
    EXECUTE 'WITH ' || p_changes || $statement$, slot_arrays AS (
        -- The arrays of a row are parallel, since one pass makes them from the same rows; in the order of the slots,
        -- since the rows come in it.
        SELECT
            model_id, day,
            sum(requests)::bigint AS requests, sum(successful)::bigint AS successful,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
            sum(timed)::bigint AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd,
            array_agg(slot) AS slots, array_agg(requests) AS slot_requests,
            array_agg(successful) AS slot_successful,
            array_agg(input_tokens) AS slot_input_tokens, array_agg(output_tokens) AS slot_output_tokens,
            array_agg(timed) AS slot_timed, array_agg(time_ms) AS slot_time_ms,
            array_agg(cost_usd) AS slot_cost_usd
        FROM (SELECT * FROM slot_sums ORDER BY model_id, day, slot) AS s
        GROUP BY model_id, day
    ), bin_arrays AS (
        SELECT model_id, day, array_agg(slot) AS bin_slots, array_agg(bin) AS bins, array_agg(n) AS counts
        FROM (SELECT * FROM cells ORDER BY model_id, day, slot) AS c
        GROUP BY model_id, day
    ), day_changes AS MATERIALIZED (
        SELECT
            model_id, day,
            COALESCE(s.requests, 0) AS requests, COALESCE(s.successful, 0) AS successful,
            COALESCE(s.input_tokens, 0) AS input_tokens, COALESCE(s.output_tokens, 0) AS output_tokens,
            COALESCE(s.timed, 0) AS timed, COALESCE(s.time_ms, 0) AS time_ms, COALESCE(s.cost_usd, 0) AS cost_usd,
            COALESCE(s.slots, '{}') AS slots, COALESCE(s.slot_requests, '{}') AS slot_requests,
            COALESCE(s.slot_successful, '{}') AS slot_successful,
            COALESCE(s.slot_input_tokens, '{}') AS slot_input_tokens,
            COALESCE(s.slot_output_tokens, '{}') AS slot_output_tokens,
            COALESCE(s.slot_timed, '{}') AS slot_timed, COALESCE(s.slot_time_ms, '{}') AS slot_time_ms,
            COALESCE(s.slot_cost_usd, '{}') AS slot_cost_usd,
            COALESCE(b.bin_slots, '{}') AS bin_slots, COALESCE(b.bins, '{}') AS bins,
            COALESCE(b.counts, '{}') AS counts
        FROM slot_arrays AS s
        FULL JOIN bin_arrays AS b USING (model_id, day)
    ), month_sums AS MATERIALIZED (
        SELECT
            model_id, chat_stats_month(day) AS month,
            sum(requests)::bigint AS requests, sum(successful)::bigint AS successful,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
            sum(timed)::bigint AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd
        FROM day_changes
        GROUP BY 1, 2
    ), month_cells AS MATERIALIZED (
        SELECT model_id, chat_stats_month(day) AS month, bin, sum(n)::bigint AS n
        FROM cells
        GROUP BY 1, 2, 3
        HAVING sum(n) <> 0
    ), month_bins AS (
        SELECT model_id, month, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM month_cells
        GROUP BY model_id, month
    ), lifetime_sums AS (
        SELECT
            model_id,
            sum(requests)::bigint AS requests, sum(successful)::bigint AS successful,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
            sum(timed)::bigint AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd
        FROM month_sums
        GROUP BY model_id
    ), lifetime_bins AS (
        SELECT model_id, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM (
            SELECT model_id, bin, sum(n)::bigint AS n FROM month_cells GROUP BY 1, 2 HAVING sum(n) <> 0
        ) AS b
        GROUP BY model_id
    ), slots AS (
        INSERT INTO chat_stats_rollup_slots AS t (
            model_id, day,
            slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens,
            slot_timed, slot_time_ms, slot_cost_usd,
            bin_slots, bins, counts
        )
        SELECT
            model_id, day,
            slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens,
            slot_timed, slot_time_ms, slot_cost_usd,
            bin_slots, bins, counts
        FROM day_changes
        ON CONFLICT (model_id, day) DO UPDATE SET
            (slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens,
             slot_timed, slot_time_ms, slot_cost_usd) = (
                SELECT
                    COALESCE(array_agg(m.slot), '{}'),
                    COALESCE(array_agg(m.requests), '{}'),
                    COALESCE(array_agg(m.successful), '{}'),
                    COALESCE(array_agg(m.input_tokens), '{}'),
                    COALESCE(array_agg(m.output_tokens), '{}'),
                    COALESCE(array_agg(m.timed), '{}'),
                    COALESCE(array_agg(m.time_ms), '{}'),
                    COALESCE(array_agg(m.cost_usd), '{}')
                FROM (
                    SELECT
                        u.slot,
                        sum(u.requests)::bigint AS requests, sum(u.successful)::bigint AS successful,
                        sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
                        sum(u.timed)::bigint AS timed, sum(u.time_ms) AS time_ms, sum(u.cost_usd) AS cost_usd
                    FROM (
                        SELECT * FROM unnest(
                            t.slots, t.slot_requests, t.slot_successful,
                            t.slot_input_tokens, t.slot_output_tokens,
                            t.slot_timed, t.slot_time_ms, t.slot_cost_usd
                        )
                        UNION ALL
                        SELECT * FROM unnest(
                            excluded.slots, excluded.slot_requests, excluded.slot_successful,
                            excluded.slot_input_tokens, excluded.slot_output_tokens,
                            excluded.slot_timed, excluded.slot_time_ms, excluded.slot_cost_usd
                        )
                    ) AS u (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
                    GROUP BY u.slot
                    HAVING (sum(u.requests), sum(u.successful), sum(u.input_tokens), sum(u.output_tokens),
                            sum(u.timed), sum(u.time_ms), sum(u.cost_usd)) <> (0, 0, 0, 0, 0, 0, 0)
                    ORDER BY u.slot
                ) AS m
            ),
            (bin_slots, bins, counts) = (
                SELECT
                    COALESCE(array_agg(m.slot), '{}'),
                    COALESCE(array_agg(m.bin), '{}'),
                    COALESCE(array_agg(m.n), '{}')
                FROM (
                    SELECT u.slot, u.bin, sum(u.n)::bigint AS n
                    FROM (
                        SELECT * FROM unnest(t.bin_slots, t.bins, t.counts)
                        UNION ALL
                        SELECT * FROM unnest(excluded.bin_slots, excluded.bins, excluded.counts)
                    ) AS u (slot, bin, n)
                    GROUP BY u.slot, u.bin
                    HAVING sum(u.n) <> 0
                    ORDER BY u.slot
                ) AS m
            )
    ), days AS (
        INSERT INTO chat_stats_rollup_days AS t (
            model_id, day, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
        )
        SELECT model_id, day, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
        FROM day_changes
        ON CONFLICT (model_id, day) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd
    ), months AS (
        INSERT INTO chat_stats_rollup_months AS t (
            model_id, month,
            requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts
        )
        SELECT
            model_id, month,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd,
            COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM month_sums AS s
        LEFT JOIN month_bins AS b USING (model_id, month)
        ORDER BY model_id, month  -- whoever adds to the same rows does so in the same order: no deadlock
        ON CONFLICT (model_id, month) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd,
            (bins, counts) = (
                SELECT
                    COALESCE(array_agg(h.bin ORDER BY h.bin), '{}'),
                    COALESCE(array_agg(h.n ORDER BY h.bin), '{}')
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
        INSERT INTO chat_stats_rollup_lifetime AS t (
            model_id, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts
        )
        SELECT
            model_id,
            s.requests, s.successful, s.input_tokens, s.output_tokens, s.timed, s.time_ms, s.cost_usd,
            COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM lifetime_sums AS s
        LEFT JOIN lifetime_bins AS b USING (model_id)
        ORDER BY model_id
        ON CONFLICT (model_id) DO UPDATE SET
            requests = t.requests + excluded.requests,
            successful = t.successful + excluded.successful,
            input_tokens = t.input_tokens + excluded.input_tokens,
            output_tokens = t.output_tokens + excluded.output_tokens,
            timed = t.timed + excluded.timed,
            time_ms = t.time_ms + excluded.time_ms,
            cost_usd = t.cost_usd + excluded.cost_usd,
            (bins, counts) = (
                SELECT
                    COALESCE(array_agg(h.bin ORDER BY h.bin), '{}'),
                    COALESCE(array_agg(h.n ORDER BY h.bin), '{}')
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
    SELECT count(*) FROM $statement$ || quote_ident(p_counted)
    INTO counted;
    RETURN counted;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_add(text, text)');
