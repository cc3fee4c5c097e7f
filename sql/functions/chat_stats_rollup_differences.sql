-- By how much the rollup differs from the requests: a row for each model and bucket in [p_start, p_end) where it
-- does, with what chat_stats_rollup_repair() would add. The end 'infinity' is included. NULL and NULL: requests
-- without created_at.
SELECT chat_stats_claim_function('chat_stats_rollup_differences');

CREATE OR REPLACE FUNCTION chat_stats_rollup_differences(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id chat_completion_requests.model_id%TYPE,
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
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN QUERY EXECUTE format(
        $differences$
            SELECT
                c.model_id, c.bucket, sum(c.requests)::bigint, sum(c.successful)::bigint,
                sum(c.input_tokens), sum(c.output_tokens), sum(c.timed)::bigint, sum(c.time_ms), sum(c.cost_usd),
                array_agg(c.bin) FILTER (WHERE c.n <> 0), array_agg(c.n) FILTER (WHERE c.n <> 0)
            FROM (
                SELECT
                    model_id, bucket, bin, sum(requests) AS requests, sum(successful) AS successful,
                    sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                    sum(timed) AS timed, sum(time_ms) AS time_ms, sum(cost_usd) AS cost_usd,
                    sum(n)::bigint AS n
                FROM (%s) AS changes
                GROUP BY model_id, bucket, bin
            ) AS c
            GROUP BY c.model_id, c.bucket
            HAVING (sum(c.requests), sum(c.successful), sum(c.input_tokens), sum(c.output_tokens),
                    sum(c.timed), sum(c.time_ms), sum(c.cost_usd)) <> (0, 0, 0, 0, 0, 0, 0)
                OR bool_or(c.n <> 0)
        $differences$,
        chat_stats_rollup_changes(p_start, p_end)
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_differences');
