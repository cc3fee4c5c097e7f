{% import 'macros/filters.sql.j2' as filters %}
-- Percentiles of the times by nearest rank over [p_start, p_end) of the groups of each of p_levels: none (of all requests,
-- group_id NULL), provider and model. Histograms are read once, those of the finest level, and merged for the others.
-- Where there are no times, there is no row; nor is there one of the requests of no model that exists.
SELECT chat_stats_claim_function('chat_stats_level_percentiles');

SELECT chat_stats_install('chat_stats_level_percentiles', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_level_percentiles(
    p_levels text[], p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    level text,
    group_id text,
    p50_processing_time_ms numeric,
    p90_processing_time_ms numeric,
    p95_processing_time_ms numeric,
    p99_processing_time_ms numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH read AS MATERIALIZED (
        SELECT h.member, h.bins, h.counts, h.total
        FROM stats_schema.chat_stats_histograms(
            NULL::text, NULL::text,
            CASE WHEN 'model' = ANY (p_levels) THEN 'model' WHEN 'provider' = ANY (p_levels) THEN 'provider' ELSE 'none' END,
            p_start, p_end, {{ filters.arguments() }}
        ) AS h
    ), cells AS MATERIALIZED (
        -- Sums of floating-point numbers are exact up to 2^53, and take half as long as those of bigint.
        SELECT c.provider_id, c.bin, sum(c.n::double precision)::bigint AS n
        FROM (
            SELECT m.provider_id, unnest(r.bins) AS bin, unnest(r.counts) AS n
            FROM read AS r
            LEFT JOIN gateway_schema.models AS m ON m.id = r.member
            WHERE p_levels && ARRAY['none', 'provider']
        ) AS c
        GROUP BY c.provider_id, c.bin
    ), found AS MATERIALIZED (
        SELECT h.level, h.group_id, stats_schema.chat_stats_percentile_bins(h.bins, h.counts, h.total) AS bins
        FROM (
            SELECT 'model' AS level, r.member::text AS group_id, r.bins, r.counts, r.total
            FROM read AS r
            WHERE 'model' = ANY (p_levels) AND r.member IS NOT NULL
            UNION ALL
            SELECT 'provider', c.provider_id::text, array_agg(c.bin ORDER BY c.bin), array_agg(c.n ORDER BY c.bin), sum(c.n)::bigint
            FROM cells AS c
            WHERE 'provider' = ANY (p_levels) AND c.provider_id IS NOT NULL
            GROUP BY c.provider_id
            UNION ALL
            SELECT 'none', NULL, array_agg(a.bin ORDER BY a.bin), array_agg(a.n ORDER BY a.bin), sum(a.n)::bigint
            FROM (SELECT c.bin, sum(c.n)::bigint AS n FROM cells AS c GROUP BY c.bin) AS a
            WHERE 'none' = ANY (p_levels)
            HAVING count(*) > 0
        ) AS h
    )
    SELECT
        f.level, f.group_id,
        stats_schema.chat_stats_bin_value(f.bins[1]), stats_schema.chat_stats_bin_value(f.bins[2]),
        stats_schema.chat_stats_bin_value(f.bins[3]), stats_schema.chat_stats_bin_value(f.bins[4])
    FROM found AS f;
END
$function$;
$install$);

-- As chat_stats_rolled_up_histograms(), and for the same reasons.
ALTER FUNCTION chat_stats_level_percentiles(text[], timestamptz, timestamptz, {{ filters.types() }})
    SET jit = off;
ALTER FUNCTION chat_stats_level_percentiles(text[], timestamptz, timestamptz, {{ filters.types() }})
    SET work_mem = '32MB';
