-- By how much the rollup differs from the requests: a row for each model and bucket in [p_start, p_end) where it
-- does, with what chat_stats_rollup_repair() would add. The end 'infinity' is included. NULL and NULL: requests
-- without created_at.
SELECT chat_stats_claim_function('chat_stats_rollup_differences');

SELECT chat_stats_install('chat_stats_rollup_differences', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_differences(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
    requests bigint,
    successful bigint,
    input_tokens numeric,
    output_tokens numeric,
    timed bigint,
    time_ms numeric,
    cost_usd numeric,
    bins smallint[],
    counts bigint[]
)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY EXECUTE 'WITH ' || stats_schema.chat_stats_rollup_changes(p_start, p_end) || $differences$
        SELECT
            model_id, stats_schema.chat_stats_bucket_at(day, slot),
            COALESCE(s.requests, 0), COALESCE(s.successful, 0), COALESCE(s.input_tokens, 0),
            COALESCE(s.output_tokens, 0), COALESCE(s.timed, 0), COALESCE(s.time_ms, 0), COALESCE(s.cost_usd, 0),
            h.bins, h.counts
        FROM slot_sums AS s
        FULL JOIN (
            SELECT c.model_id, c.day, c.slot, array_agg(c.bin) AS bins, array_agg(c.n) AS counts
            FROM cells AS c
            GROUP BY 1, 2, 3
        ) AS h USING (model_id, day, slot)
    $differences$;
END
$function$;
$install$);

-- As chat_stats_rollup_repair(), and for the same reasons.
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET enable_hashagg = off;
ALTER FUNCTION chat_stats_rollup_differences(timestamptz, timestamptz) SET jit = off;
