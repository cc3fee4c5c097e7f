{% import 'macros/rollups.sql.j2' as kept %}
-- Moves the deltas into days, months and lifetime. Returns how many there were; 0 also when another session
-- is folding or repairing, or where the state has lost its row.
SELECT chat_stats_install('chat_stats_fold', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_fold()
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    folded bigint;
BEGIN
    -- The lock of all that changes the rollup is this row: only roles that may write it can hold it.
    PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    folded := stats_schema.chat_stats_rollup_add($changes$
        moved AS (
            DELETE FROM stats_schema.chat_stats_deltas RETURNING *
        ), slot_sums AS MATERIALIZED (
            SELECT
                d.model_id, stats_schema.chat_stats_day(d.bucket) AS day,
                stats_schema.chat_stats_slot(d.bucket) AS slot,
                {{ each('sum(d.{name}){cast} AS {name}', 16) }}
            FROM moved AS d
            GROUP BY d.model_id, d.bucket
            HAVING {{ kept.changed('d') }}
        ), cells AS MATERIALIZED (
            SELECT
                b.model_id, stats_schema.chat_stats_day(b.bucket) AS day,
                stats_schema.chat_stats_slot(b.bucket) AS slot, b.bin,
                sum(b.n)::bigint AS n
            FROM (
                SELECT
                    d.model_id, d.bucket,
                    stats_schema.chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END) AS bin,
                    d.timed AS n
                FROM moved AS d
                WHERE d.times IS NULL AND d.timed <> 0
                UNION ALL
                SELECT d.model_id, d.bucket, stats_schema.chat_stats_bin(u.time_ms), sign(d.timed)::bigint
                FROM moved AS d
                CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
                WHERE d.times IS NOT NULL
            ) AS b
            GROUP BY b.model_id, b.bucket, b.bin
            HAVING sum(b.n) <> 0
        )
    $changes$, 'moved');
    UPDATE stats_schema.chat_stats_rollup_state SET folded_at = clock_timestamp();
    RETURN folded;
END
$function$;
$install$);

-- It handles many rows at once, seldom, and alone: memory that the usual few megabytes would spill to disk.
ALTER FUNCTION chat_stats_fold() SET work_mem = '64MB';
ALTER FUNCTION chat_stats_fold() SET jit = off;
