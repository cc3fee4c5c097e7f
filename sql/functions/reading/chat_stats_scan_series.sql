{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
-- Totals per model and interval over [p_start, p_end), from the requests themselves and what is kept of those that
-- were purged (whose buckets count as a whole where they begin).
SELECT chat_stats_claim_function('chat_stats_scan_series');

SELECT chat_stats_install('chat_stats_scan_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_scan_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{total} {type}', 4) }}
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
        SELECT
            t.interval_start, t.model_id,
            {{ each('sum(t.{name}){cast}', 12) }}
        FROM (
            SELECT u.moment AS interval_start, u.model_id, {{ each('u.{name}') }}
            FROM stats_schema.chat_stats_unfolded('scan', p_interval, p_timezone, p_start, p_end, model_ids) AS u
            UNION ALL
            SELECT
                stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id, {{ each('s.{name}') }}
            FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
            WHERE all_models OR s.model_id::text = ANY (model_ids)
        ) AS t
        GROUP BY 1, 2
        HAVING sum(t.requests) <> 0;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT
        t.interval_start, t.model_id,
        {{ each('sum(t.{name}){cast}', 8) }}
    FROM (
        SELECT
            u.interval_start,
            u.model_id,
            {{ requests.of_status() | indent(12) }}
        FROM (
            SELECT
                stats_schema.chat_stats_interval_start(p_interval,
                stats_schema.chat_stats_bucket(r.created_at::timestamptz), p_timezone) AS interval_start,
                r.model_id,
                r.status,
                {{ requests.by_status() | indent(16) }}
            FROM {{ requests.absent() }}
            CROSS JOIN LATERAL (
                SELECT model_id, created_at, status, {{ requests.as_they_are() }}
                FROM gateway_schema.chat_completion_requests
                WHERE created_at >= p_start AND created_at < p_end
                  AND (all_models
                       OR model_id = ANY (ARRAY(
                           {{ requests.wanted_models('id') | indent(27) }}
                       )))
            ) AS r
            GROUP BY 1, 2, 3
        ) AS u
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            {{ each('s.{name}') }}
        FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
        WHERE all_models
           OR s.model_id IN (
               {{ requests.wanted_models('id') | indent(15) }}
           )
    ) AS t
    GROUP BY 1, 2
    HAVING sum(t.requests) <> 0;
END
$function$;
$install$);
