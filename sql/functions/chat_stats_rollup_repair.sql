-- Makes the rollup equal to the requests for the buckets in [p_start, p_end) (NULL and NULL: those without
-- created_at), and returns how many models' buckets differed.
--
-- In a REPEATABLE READ transaction this is exact beside any number of writers: what it adds is the difference
-- as of its snapshot, and what they write later adds to both sides. Two repairs at once would add it twice:
-- the caller holds the lock that keeps them apart.
CREATE OR REPLACE FUNCTION chat_stats_rollup_repair(p_start timestamptz, p_end timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    repaired bigint;
BEGIN
    INSERT INTO chat_stats_deltas (
        model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, bins, counts
    )
    SELECT
        d.model_id, d.bucket, d.requests, d.successful, d.input_tokens, d.output_tokens, d.timed, d.time_ms,
        d.cost_usd, d.bins, d.counts
    FROM chat_stats_rollup_differences(p_start, p_end) AS d;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    RETURN repaired;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_repair');
