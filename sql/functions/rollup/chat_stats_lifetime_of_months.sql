-- What chat_stats_rollup_lifetime must hold: the sums of the months.
SELECT chat_stats_claim_function('chat_stats_lifetime_of_months');

SELECT chat_stats_install('chat_stats_lifetime_of_months', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_lifetime_of_months()
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{name} {type}', 4) }},
    bins smallint[],
    counts bigint[]
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH sums AS (
        SELECT
            t.model_id,
            {{ each('sum(t.{name}){cast} AS {name}', 12) }}
        FROM stats_schema.{{ rollup('months').table }} AS t
        GROUP BY 1
    ), histograms AS (
        SELECT b.model_id, array_agg(b.bin ORDER BY b.bin) AS bins, array_agg(b.n ORDER BY b.bin) AS counts
        FROM (
            SELECT t.model_id, u.bin, sum(u.n)::bigint AS n
            FROM stats_schema.{{ rollup('months').table }} AS t CROSS JOIN LATERAL unnest(t.bins, t.counts) AS u (bin, n)
            GROUP BY 1, 2
            HAVING sum(u.n) <> 0
        ) AS b
        GROUP BY 1
    )
    SELECT
        s.model_id,
        {{ each('s.{name}') }}, COALESCE(h.bins, '{}'), COALESCE(h.counts, '{}')
    FROM sums AS s
    LEFT JOIN histograms AS h USING (model_id);
END
$function$;
$install$);
