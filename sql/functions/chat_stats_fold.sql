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
        ), changes AS (
            SELECT
                d.model_id, d.bucket,
                CASE WHEN d.times IS NULL AND d.timed <> 0
                     THEN chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END) END AS bin,
                d.requests, d.successful, d.input_tokens, d.output_tokens, d.timed, d.time_ms, d.cost_usd,
                CASE WHEN d.times IS NULL THEN d.timed ELSE 0 END AS n
            FROM moved AS d
            UNION ALL
            SELECT
                d.model_id, d.bucket, chat_stats_bin(u.time_ms),
                0::bigint, 0::bigint, 0::numeric, 0::numeric, 0::bigint, 0::numeric, 0::numeric,
                sign(d.timed)::bigint
            FROM moved AS d
            CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
            WHERE d.times IS NOT NULL
        )
    $changes$, 'moved');
    UPDATE chat_stats_rollup_state SET folded_at = clock_timestamp();
    RETURN folded;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_fold');

-- It handles many rows at once, seldom, and alone: memory that the usual few megabytes would spill to disk.
ALTER FUNCTION chat_stats_fold() SET work_mem = '64MB';
ALTER FUNCTION chat_stats_fold() SET jit = off;
