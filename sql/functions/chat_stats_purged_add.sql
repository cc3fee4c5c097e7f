-- Adds to what is kept of purged requests, in one statement. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that ends with `changes`, as chat_stats_rollup_add() takes it. The
-- caller holds the lock of the rollup's upkeep.
CREATE OR REPLACE FUNCTION chat_stats_purged_add(p_changes text, p_counted text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    counted bigint;
BEGIN
    EXECUTE 'WITH ' || p_changes || $statement$, cells AS MATERIALIZED (
        SELECT
            c.model_id, chat_stats_day(c.bucket) AS day, chat_stats_slot(c.bucket) AS slot, c.bin,
            sum(c.requests)::bigint AS requests, sum(c.successful)::bigint AS successful,
            sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens,
            sum(c.timed)::bigint AS timed, COALESCE(sum(c.time_ms), 0) AS time_ms, sum(c.cost_usd) AS cost_usd,
            sum(c.n)::bigint AS n
        FROM changes AS c
        GROUP BY c.model_id, c.bucket, c.bin
    ), days AS (
        SELECT
            s.model_id, s.day,
            array_agg(s.slot) AS slots, array_agg(s.requests) AS slot_requests,
            array_agg(s.successful) AS slot_successful, array_agg(s.input_tokens) AS slot_input_tokens,
            array_agg(s.output_tokens) AS slot_output_tokens, array_agg(s.timed) AS slot_timed,
            array_agg(s.time_ms) AS slot_time_ms, array_agg(s.cost_usd) AS slot_cost_usd
        FROM (
            SELECT
                model_id, day, slot,
                sum(requests)::bigint AS requests, sum(successful)::bigint AS successful,
                sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                sum(timed)::bigint AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd
            FROM cells
            GROUP BY model_id, day, slot
        ) AS s
        GROUP BY s.model_id, s.day
    ), day_bins AS (
        SELECT model_id, day, array_agg(slot) AS bin_slots, array_agg(bin) AS bins, array_agg(n) AS counts
        FROM cells
        WHERE n <> 0
        GROUP BY model_id, day
    ), kept AS (
        INSERT INTO chat_stats_purged AS t (
            model_id, day,
            slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens,
            slot_timed, slot_time_ms, slot_cost_usd,
            bin_slots, bins, counts
        )
        SELECT
            s.*, COALESCE(b.bin_slots, '{}'), COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM days AS s
        LEFT JOIN day_bins AS b USING (model_id, day)
        ON CONFLICT (model_id, day) DO UPDATE SET
            (slots, slot_requests, slot_successful, slot_input_tokens, slot_output_tokens,
             slot_timed, slot_time_ms, slot_cost_usd) = (
                SELECT
                    COALESCE(array_agg(m.slot), '{}'),
                    COALESCE(array_agg(m.requests::bigint), '{}'),
                    COALESCE(array_agg(m.successful::bigint), '{}'),
                    COALESCE(array_agg(m.input_tokens), '{}'),
                    COALESCE(array_agg(m.output_tokens), '{}'),
                    COALESCE(array_agg(m.timed::bigint), '{}'),
                    COALESCE(array_agg(m.time_ms), '{}'),
                    COALESCE(array_agg(m.cost_usd), '{}')
                FROM (
                    SELECT
                        u.slot,
                        sum(u.requests) AS requests, sum(u.successful) AS successful,
                        sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
                        sum(u.timed) AS timed, sum(u.time_ms) AS time_ms, sum(u.cost_usd) AS cost_usd
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
                ) AS m
            )
    )
    SELECT count(*) FROM $statement$ || quote_ident(p_counted)
    INTO counted;
    RETURN counted;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_purged_add(text, text)');
