-- By how much the rollup differs from the requests: a row for each model and bucket in [p_start, p_end) where it
-- does, with what chat_stats_rollup_repair() would add. The end 'infinity' is included. NULL and NULL: requests
-- without created_at.
SELECT chat_stats_claim_function('chat_stats_rollup_differences');

SELECT chat_stats_install('chat_stats_rollup_differences', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_differences(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
    {{ each('{name} {type}', 4) }},
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
            {{ each('COALESCE(s.{name}, 0)', 12) }},
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
