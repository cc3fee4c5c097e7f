-- Moves the deltas into days, months and lifetime. Returns how many there were; 0 also when somebody else
-- is folding.
CREATE OR REPLACE FUNCTION chat_stats_fold()
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    folded bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1668510835, 3) THEN
        RETURN 0;
    END IF;
    folded := chat_stats_rollup_add($changes$
        moved AS (
            DELETE FROM chat_stats_deltas RETURNING *
        ), slot_sums AS MATERIALIZED (
            SELECT
                d.model_id, chat_stats_day(d.bucket) AS day, chat_stats_slot(d.bucket) AS slot,
                sum(d.requests)::bigint AS requests, sum(d.successful)::bigint AS successful,
                sum(d.input_tokens) AS input_tokens, sum(d.output_tokens) AS output_tokens,
                sum(d.timed)::bigint AS timed, sum(d.time_ms) AS time_ms, sum(d.cost_usd) AS cost_usd
            FROM moved AS d
            GROUP BY d.model_id, d.bucket
            HAVING (sum(d.requests), sum(d.successful), sum(d.input_tokens), sum(d.output_tokens),
                    sum(d.timed), sum(d.time_ms), sum(d.cost_usd)) <> (0, 0, 0, 0, 0, 0, 0)
        ), cells AS MATERIALIZED (
            SELECT
                b.model_id, chat_stats_day(b.bucket) AS day, chat_stats_slot(b.bucket) AS slot, b.bin,
                sum(b.n)::bigint AS n
            FROM (
                SELECT
                    d.model_id, d.bucket,
                    chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END) AS bin, d.timed AS n
                FROM moved AS d
                WHERE d.times IS NULL AND d.timed <> 0
                UNION ALL
                SELECT d.model_id, d.bucket, chat_stats_bin(u.time_ms), sign(d.timed)::bigint
                FROM moved AS d
                CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                WHERE d.times IS NOT NULL
            ) AS b
            GROUP BY b.model_id, b.bucket, b.bin
            HAVING sum(b.n) <> 0
        )
    $changes$, 'moved');
    UPDATE chat_stats_rollup_state SET folded_at = clock_timestamp();
    RETURN folded;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_fold()');

-- It handles many rows at once, seldom, and alone: memory that the usual few megabytes would spill to disk.
ALTER FUNCTION chat_stats_fold() SET work_mem = '64MB';
ALTER FUNCTION chat_stats_fold() SET jit = off;
