-- Makes what is kept of purged requests such that the rollup is right in [p_start, p_end), where requests went
-- without being deleted one by one, with a partition that was detached or dropped (p_gone), or came back with one.
-- Where the other way round the requests have more, or less, that is for chat_stats_rollup_repair(). Returns how
-- many models' buckets it kept or gave back. Exact beside writers, as chat_stats_rollup_repair() is.
SELECT chat_stats_claim_function('chat_stats_keep');

CREATE OR REPLACE FUNCTION chat_stats_keep(p_start timestamptz, p_end timestamptz, p_gone boolean)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock(1668510835, 3);  -- that of chat_stats_fold()
    LOCK TABLE chat_completion_requests IN ACCESS SHARE MODE;
    RETURN chat_stats_purged_add(
        format(
            $changes$
                differences AS MATERIALIZED (
                    SELECT
                        c.model_id, c.bucket, c.bin, sum(c.requests) AS requests, sum(c.successful) AS successful,
                        sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens,
                        sum(c.timed) AS timed, sum(c.time_ms) AS time_ms, sum(c.cost_usd) AS cost_usd, sum(c.n) AS n
                    FROM (%s) AS c
                    GROUP BY c.model_id, c.bucket, c.bin
                ), concerned AS MATERIALIZED (
                    SELECT d.model_id, d.bucket
                    FROM differences AS d
                    GROUP BY d.model_id, d.bucket
                    HAVING CASE WHEN %L THEN sum(d.requests) < 0 ELSE sum(d.requests) > 0 AND sum(d.requests) <= (
                        SELECT sum(k.requests)
                        FROM chat_stats_purged_slots(d.bucket, d.bucket + interval '1 microsecond') AS k
                        WHERE k.model_id = d.model_id
                    ) END
                ), changes AS (
                    SELECT
                        d.model_id, d.bucket, d.bin, -d.requests AS requests, -d.successful AS successful,
                        -d.input_tokens AS input_tokens, -d.output_tokens AS output_tokens, -d.timed AS timed,
                        -d.time_ms AS time_ms, -d.cost_usd AS cost_usd, -d.n AS n
                    FROM differences AS d
                    JOIN concerned AS c USING (model_id, bucket)
                )
            $changes$,
            chat_stats_rollup_changes(p_start, p_end), p_gone
        ),
        'concerned'
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_keep');

ALTER FUNCTION chat_stats_keep(timestamptz, timestamptz, boolean) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_keep(timestamptz, timestamptz, boolean) SET jit = off;
