{% import 'macros/requests.sql.j2' as requests %}
-- The histograms of chat_stats_scan_histograms() without intervals, from the rollup: the pieces that chat_stats_cover()
-- finds, with the deltas that are not folded yet, and from the requests themselves only the ragged edges of the range.
SELECT chat_stats_claim_function('chat_stats_rolled_up_histograms');

SELECT chat_stats_install('chat_stats_rolled_up_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_histograms(
    p_group_by text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
)
RETURNS TABLE (member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    IF p_start IS NULL AND p_end IS NULL THEN
        IF p_group_by = 'model' THEN  -- nearly all of the histograms are there already as they are wanted
            RETURN QUERY
            SELECT g.member, t.bins, t.counts, t.timed
            FROM stats_schema.chat_stats_groups(p_group_by, p_provider_id, p_model_id) AS g
            JOIN stats_schema.{{ rollup('lifetime').table }} AS t ON t.model_id = g.id
            WHERE t.timed > 0
              AND t.model_id NOT IN (SELECT d.model_id FROM stats_schema.chat_stats_deltas AS d WHERE d.timed <> 0);
            IF NOT EXISTS (SELECT FROM stats_schema.chat_stats_deltas AS d WHERE d.timed <> 0) THEN
                RETURN;
            END IF;
        END IF;
        RETURN QUERY
        WITH groups AS MATERIALIZED (
            SELECT * FROM stats_schema.chat_stats_groups(p_group_by, p_provider_id, p_model_id)
        ), cells AS (
            SELECT g.member, unnest(t.bins) AS bin, unnest(t.counts) AS n
            FROM stats_schema.{{ rollup('lifetime').table }} AS t
            JOIN groups AS g ON g.id = t.model_id
            WHERE p_group_by <> 'model'
               OR t.model_id IN (SELECT d.model_id FROM stats_schema.chat_stats_deltas AS d WHERE d.timed <> 0)
            UNION ALL
            SELECT g.member, stats_schema.chat_stats_bin(u.time_ms), sign(d.timed)::bigint
            FROM stats_schema.chat_stats_deltas AS d
            JOIN groups AS g ON g.id = d.model_id
            -- (One time alone is the sum, with the sign of its count.)
            CROSS JOIN LATERAL unnest(COALESCE(d.times, ARRAY[d.timed * d.time_ms])) AS u (time_ms)
            WHERE d.timed <> 0
        )
        SELECT b.member, array_agg(b.bin), array_agg(b.n), sum(b.n)::bigint
        FROM (
            SELECT c.member, c.bin, sum(c.n)::bigint AS n
            FROM cells AS c
            GROUP BY c.member, c.bin
            HAVING sum(c.n) <> 0
            ORDER BY c.member, c.bin
        ) AS b
        GROUP BY b.member;
        RETURN;
    END IF;

    RETURN QUERY
    WITH groups AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_groups(p_group_by, p_provider_id, p_model_id)
    ), pieces AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_cover(p_start, p_end)
    ), cells (member, bin, n) AS (
        -- Arrays are taken apart by SELECT, since FROM would put each aside first. (The groups are named twice: as an
        -- array they find the index.)
        SELECT h.member, h.bin, h.sign * h.n
        FROM (
            SELECT c.sign, g.member, unnest(t.bins) AS bin, unnest(t.counts) AS n
            FROM pieces AS c
            JOIN stats_schema.{{ rollup('months').table }} AS t
                ON t.month >= c.first_day AND (t.month < c.end_day OR c.end_day IS NULL)
            JOIN groups AS g ON g.id = t.model_id
            WHERE c.tier = 'months' AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
        ) AS h
        UNION ALL
        SELECT h.member, h.bin, h.sign * h.n
        FROM (
            SELECT c.sign, g.member, unnest(t.bins) AS bin, unnest(t.counts) AS n
            FROM pieces AS c
            JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day >= c.first_day AND t.day < c.end_day
            JOIN groups AS g ON g.id = t.model_id
            WHERE c.tier = 'days' AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
        ) AS h
        UNION ALL
        SELECT h.member, h.bin, h.sign * h.n
        FROM (
            SELECT
                t.sign, t.member, unnest(t.bins[t.first:t.last]) AS bin, unnest(t.counts[t.first:t.last]) AS n
            FROM (
                SELECT
                    c.sign, g.member, t.bins, t.counts,
                    width_bucket((c.first_slot - 1)::smallint, t.bin_slots) + 1 AS first,
                    width_bucket((c.end_slot - 1)::smallint, t.bin_slots) AS last
                FROM pieces AS c
                JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day = c.first_day
                JOIN groups AS g ON g.id = t.model_id
                WHERE c.tier = 'slots' AND cardinality(t.bin_slots) > 0
                  AND (all_models OR t.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
                OFFSET 0
            ) AS t
        ) AS h
        UNION ALL
        SELECT g.member, stats_schema.chat_stats_bin(u.time_ms), sign(d.timed)::bigint
        FROM pieces AS c
        JOIN stats_schema.chat_stats_deltas AS d ON d.bucket >= c.starts AND (d.bucket < c.ends OR c.ends IS NULL)
        JOIN groups AS g ON g.id = d.model_id
        CROSS JOIN LATERAL unnest(COALESCE(d.times, ARRAY[d.timed * d.time_ms])) AS u (time_ms)
        WHERE c.tier = 'deltas' AND d.timed <> 0
        UNION ALL
        SELECT g.member, stats_schema.chat_stats_bin(r.processing_time_ms::numeric), c.sign
        FROM pieces AS c
        JOIN gateway_schema.chat_completion_requests AS r ON r.created_at >= c.starts AND r.created_at < c.ends
        JOIN groups AS g ON g.id = r.model_id
        WHERE c.tier = 'requests' AND (all_models OR r.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
          AND {{ requests.in_bounds('r.' ~ measure('time_ms').column.name) }}
        UNION ALL
        -- A bucket that was purged counts as a whole where it begins.
        SELECT g.member, t.bin, c.sign * t.n
        FROM pieces AS c
        CROSS JOIN LATERAL stats_schema.chat_stats_purged_bins(c.starts, c.ends) AS t
        JOIN groups AS g ON g.id = t.model_id
        WHERE c.tier = 'requests'
    )
    SELECT b.member, array_agg(b.bin), array_agg(b.n), sum(b.n)::bigint
    FROM (
        SELECT c.member, c.bin, sum(c.n)::bigint AS n
        FROM cells AS c
        GROUP BY c.member, c.bin
        HAVING sum(c.n) <> 0
        ORDER BY c.member, c.bin
    ) AS b
    GROUP BY b.member;
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons; and the histograms of all models and bins are in need of memory.
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, text, text) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, text, text) SET enable_seqscan = off;
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, text, text) SET work_mem = '32MB';
