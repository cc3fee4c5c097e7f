{% import 'macros/requests.sql.j2' as requests %}
-- The histograms of chat_stats_scan_histograms() for each interval of a time series, from the rollup: months, the
-- slots of days, the deltas that are not folded yet, and from the requests themselves only the ragged edges.
SELECT chat_stats_claim_function('chat_stats_rolled_up_series_histograms');

SELECT chat_stats_install('chat_stats_rolled_up_series_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_series_histograms(
    p_interval text, p_timezone text, p_group_by text,
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (
    interval_start timestamptz, member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    -- The whole buckets: [first_bucket, end_bucket).
    first_bucket timestamptz := LEAST(p_end, CASE
        WHEN p_start > stats_schema.chat_stats_bucket(p_start)
            THEN stats_schema.chat_stats_bucket(p_start) + interval '15 minutes'
        ELSE p_start END);
    end_bucket timestamptz := LEAST(p_end, GREATEST(stats_schema.chat_stats_bucket(p_end), first_bucket));
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    RETURN QUERY
    WITH groups AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_groups(p_group_by, p_provider_id, p_model_id)
    ), days AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_series_days(p_interval, p_timezone, first_bucket, end_bucket)
    ), edges (starts, ends) AS (
        VALUES (p_start, first_bucket), (end_bucket, p_end)
    ), cells AS (
        -- Arrays are taken apart by SELECT, since FROM would put each aside first. (The groups are named twice: as an
        -- array they find the index.)
        SELECT c.interval_start, g.member, unnest(t.bins) AS bin, unnest(t.counts) AS n
        FROM days AS c
        JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day = c.day
        JOIN groups AS g ON g.id = t.model_id
        WHERE c.interval_start IS NOT NULL AND NOT c.is_month
          AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
        UNION ALL
        SELECT c.interval_start, g.member, unnest(t.bins), unnest(t.counts)
        FROM days AS c
        JOIN stats_schema.{{ rollup('months').table }} AS t ON t.month = c.day
        JOIN groups AS g ON g.id = t.model_id
        WHERE c.is_month AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
        UNION ALL
        SELECT h.slot_intervals[h.slot + 1], h.member, h.bin, h.n
        FROM (
            SELECT
                c.slot_intervals, g.member, unnest(t.bin_slots) AS slot, unnest(t.bins) AS bin, unnest(t.counts) AS n
            FROM days AS c
            JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day = c.day
            JOIN groups AS g ON g.id = t.model_id
            WHERE c.interval_start IS NULL AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
        ) AS h
        WHERE h.slot_intervals[h.slot + 1] IS NOT NULL
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, d.bucket, p_timezone), g.member,
            stats_schema.chat_stats_bin(u.time_ms),
            sign(d.timed)::bigint
        FROM stats_schema.chat_stats_deltas AS d
        JOIN groups AS g ON g.id = d.model_id
        -- (One time alone is the sum, with the sign of its count.)
        CROSS JOIN LATERAL unnest(COALESCE(d.times, ARRAY[d.timed * d.time_ms])) AS u (time_ms)
        WHERE d.timed <> 0 AND d.bucket >= first_bucket AND d.bucket < end_bucket
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval,
            stats_schema.chat_stats_bucket(r.created_at::timestamptz), p_timezone), g.member,
            stats_schema.chat_stats_bin(r.processing_time_ms::numeric), 1
        FROM edges AS e
        JOIN gateway_schema.chat_completion_requests AS r ON r.created_at >= e.starts AND r.created_at < e.ends
        JOIN groups AS g ON g.id = r.model_id
        WHERE (all_models OR r.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
          AND {{ requests.in_bounds('r.' ~ measure('time_ms').column.name) }}
        UNION ALL
        -- A bucket that was purged counts as a whole where it begins.
        SELECT stats_schema.chat_stats_interval_start(p_interval, t.bucket, p_timezone), g.member, t.bin, t.n
        FROM edges AS e
        CROSS JOIN LATERAL stats_schema.chat_stats_purged_bins(e.starts, e.ends) AS t
        JOIN groups AS g ON g.id = t.model_id
    )
    SELECT b.interval_start, b.member, array_agg(b.bin), array_agg(b.n), sum(b.n)::bigint
    FROM (
        SELECT c.interval_start, c.member, c.bin, sum(c.n)::bigint AS n
        FROM cells AS c
        GROUP BY c.interval_start, c.member, c.bin
        HAVING sum(c.n) <> 0
        ORDER BY c.interval_start, c.member, c.bin
    ) AS b
    GROUP BY b.interval_start, b.member;
END
$function$;
$install$);

-- As chat_stats_rolled_up_histograms(), and for the same reasons.
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, text, text)
    SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, text, text)
    SET enable_seqscan = off;
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, text, text)
    SET work_mem = '32MB';
