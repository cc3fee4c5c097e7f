{% import 'macros/histograms.sql.j2' as histograms %}
{% import 'macros/filters.sql.j2' as filters %}
{% import 'macros/requests.sql.j2' as requests %}
-- The histograms of times (chat_stats_bin()) over [p_start, p_end) of the groups of chat_stats_groups(), and as member NULL
-- that of the requests of no group (of all of them, when they are not grouped), from the
-- requests themselves and what is kept of those that were purged (whose buckets count as a whole where they begin);
-- with p_interval for each interval of a time series, else interval_start is NULL. The bins ascend, and total is the
-- sum of their counts.
SELECT chat_stats_claim_function('chat_stats_scan_histograms');

SELECT chat_stats_install('chat_stats_scan_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_scan_histograms(
    p_interval text, p_timezone text, p_group_by text,
    p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz, member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ filters.declared() }}
    {{ filters.declared_ids() }}
BEGIN
    IF stats_schema.chat_stats_on_shards() THEN
        {{ filters.ids() | indent(8) }}
        RETURN QUERY
        WITH {{ histograms.groups() | indent(8) }}, cells (interval_start, model_id, bin, n) AS (
            SELECT u.moment, u.model_id, u.bin, u.n
            FROM stats_schema.chat_stats_unfolded_bins('scan', p_interval, p_timezone, p_start, p_end, model_ids) AS u
            UNION ALL
            SELECT stats_schema.chat_stats_interval_start(p_interval, t.bucket, p_timezone), t.model_id, t.bin, t.n
            FROM stats_schema.chat_stats_purged_bins(p_start, p_end) AS t
        )
        SELECT b.interval_start, b.member, array_agg(b.bin), array_agg(b.n), sum(b.n)::bigint
        FROM (
            SELECT c.interval_start, g.member, c.bin, sum(c.n)::bigint AS n
            FROM cells AS c
            LEFT JOIN groups AS g ON g.id = c.model_id
            WHERE {{ filters.asked_for('g.id IS NULL') }}
            GROUP BY c.interval_start, g.member, c.bin
            HAVING sum(c.n) <> 0
            ORDER BY c.interval_start, g.member, c.bin
        ) AS b
        GROUP BY b.interval_start, b.member;
        RETURN;
    END IF;
    RETURN QUERY
    WITH {{ histograms.groups() | indent(4) }}, cells (interval_start, model_id, bin, n) AS (
        SELECT
            stats_schema.chat_stats_interval_start(p_interval,
            stats_schema.chat_stats_bucket(r.created_at::timestamptz), p_timezone), r.model_id,
            stats_schema.chat_stats_bin(r.processing_time_ms::numeric), count(*)
        FROM gateway_schema.chat_completion_requests AS r
        WHERE (p_start IS NULL OR r.created_at >= p_start)
          AND (p_end IS NULL OR r.created_at < p_end)
          AND (all_models OR r.model_id = ANY (ARRAY(SELECT g.id FROM groups AS g)))
          AND {{ requests.in_bounds('r.' ~ measure('time_ms').column.name) }}
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT stats_schema.chat_stats_interval_start(p_interval, t.bucket, p_timezone), t.model_id, t.bin, t.n
        FROM stats_schema.chat_stats_purged_bins(p_start, p_end) AS t
    )
    SELECT b.interval_start, b.member, array_agg(b.bin), array_agg(b.n), sum(b.n)::bigint
    FROM (
        SELECT c.interval_start, g.member, c.bin, sum(c.n)::bigint AS n
        FROM cells AS c
        LEFT JOIN groups AS g ON g.id = c.model_id
        WHERE {{ filters.asked_for('g.id IS NULL') }}
        GROUP BY c.interval_start, g.member, c.bin
        HAVING sum(c.n) <> 0
        ORDER BY c.interval_start, g.member, c.bin
    ) AS b
    GROUP BY b.interval_start, b.member;
END
$function$;
$install$);

ALTER FUNCTION chat_stats_scan_histograms(text, text, text, timestamptz, timestamptz, {{ filters.types() }})
    SET work_mem = '32MB';  -- for the histograms of all models
