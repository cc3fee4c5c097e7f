{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
-- Totals per model over [p_start, p_end), from the requests themselves and what is kept of those that were
-- purged (whose buckets count as a whole where they begin). p_provider_id, p_model_id (as text, since ids may be uuid, int
-- or bigint) and p_model_name (a part of it) narrow it down.
SELECT chat_stats_claim_function('chat_stats_scan');

SELECT chat_stats_install('chat_stats_scan', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_scan(
    p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
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
            t.model_id,
            {{ each('sum(t.{name}){cast}', 12) }}
        FROM (
            SELECT u.model_id, {{ each('u.{name}') }}
            FROM stats_schema.chat_stats_unfolded('scan', NULL::text, NULL::text, p_start, p_end, model_ids) AS u
            UNION ALL
            SELECT s.model_id, {{ each('s.{name}') }}
            FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
            WHERE all_models OR s.model_id::text = ANY (model_ids)
        ) AS t
        GROUP BY t.model_id
        HAVING sum(t.requests) <> 0;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT
        t.model_id,
        {{ each('sum(t.{name}){cast}', 8) }}
    FROM (
        SELECT
            u.model_id,
            {{ requests.over_status() | indent(12) }}
        FROM (
            SELECT
                r.model_id,
                r.status,
                {{ requests.by_status() | indent(16) }}
            FROM {{ requests.absent() }}
            CROSS JOIN LATERAL (
                SELECT model_id, status, {{ requests.as_they_are() }}
                FROM gateway_schema.chat_completion_requests
                WHERE (p_start IS NULL OR created_at >= p_start)
                  AND (p_end IS NULL OR created_at < p_end)
                  AND (all_models
                       OR model_id = ANY (ARRAY(
                           {{ requests.wanted_models('id') | indent(27) }}
                       )))
            ) AS r
            GROUP BY r.model_id, r.status
        ) AS u
        GROUP BY u.model_id
        UNION ALL
        SELECT
            s.model_id, {{ each('s.{name}') }}
        FROM stats_schema.chat_stats_purged_slots(p_start, p_end) AS s
        WHERE all_models
           OR s.model_id IN (
               {{ requests.wanted_models('id') | indent(15) }}
           )
    ) AS t
    GROUP BY t.model_id
    HAVING sum(t.requests) <> 0;
END
$function$;
$install$);
