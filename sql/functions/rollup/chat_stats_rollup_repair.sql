-- Makes the rollup equal to the requests for the buckets in [p_start, p_end) (the end 'infinity' is included;
-- NULL and NULL: those without created_at), and returns how many models' buckets differed. On an empty rollup
-- this is the backfill.
--
-- Exact beside any number of writers: what it adds is the difference in the one snapshot of its statement, and
-- what they write later adds to both sides. What must not come between snapshot and addition is waited for
-- first: a fold or a second repair (their lock), and TRUNCATE (the table's lock). In a transaction that had its
-- snapshot before (REPEATABLE READ) these locks come too late: a fold in between is then a serialization failure.
--
-- With p_beside, repairs of other days may run at the same time, on other connections: each changes slots and days
-- of its own only, and what they share, months and lifetimes, it adds to in the same order.
--
-- With p_only, one rollup of the operator's own alone, which was added: the others are neither read nor changed.
SELECT chat_stats_install('chat_stats_rollup_repair', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_repair(
    p_start timestamptz, p_end timestamptz, p_beside boolean DEFAULT false, p_only text DEFAULT NULL
)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
BEGIN
    IF p_beside THEN
        PERFORM FROM stats_schema.chat_stats_rollup_state FOR SHARE;  -- the lock of chat_stats_fold()
    ELSE
        PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE;
    END IF;
    LOCK TABLE gateway_schema.chat_completion_requests IN ACCESS SHARE MODE;
    RETURN stats_schema.chat_stats_rollup_add(stats_schema.chat_stats_rollup_changes(p_start, p_end, p_only), 'differing', p_only);
END
$function$;
$install$);

-- It handles hundreds of thousands of rows at once, in nearly as many groups: sorting them takes less memory
-- and time than hashing, and neither may spill to disk.
ALTER FUNCTION chat_stats_rollup_repair(timestamptz, timestamptz, boolean, text) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_rollup_repair(timestamptz, timestamptz, boolean, text) SET enable_hashagg = off;
ALTER FUNCTION chat_stats_rollup_repair(timestamptz, timestamptz, boolean, text) SET jit = off;
