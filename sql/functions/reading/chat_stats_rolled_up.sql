{% import 'macros/requests.sql.j2' as requests %}
-- The numbers of chat_stats_scan(), from the rollup: the pieces that chat_stats_cover() finds, with the deltas that
-- are not folded yet, and from the requests themselves only the ragged edges of the range.
SELECT chat_stats_claim_function('chat_stats_rolled_up');

SELECT chat_stats_install('chat_stats_rolled_up', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up(
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
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
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    IF p_start IS NULL AND p_end IS NULL THEN
        RETURN QUERY
        SELECT
            p.model_id,
            {{ each('sum(p.{name}){cast}', 12) }}
        FROM (
            SELECT t.model_id, {{ each('t.{name}') }}
            FROM stats_schema.{{ rollup('lifetime').table }} AS t
            UNION ALL
            SELECT t.model_id, {{ each('t.{name}') }}
            FROM stats_schema.chat_stats_deltas AS t
        ) AS p
        WHERE all_models OR p.model_id IN (
            {{ requests.wanted_models('id') | indent(12) }}
        )
        GROUP BY p.model_id
        HAVING sum(p.requests) <> 0;
        RETURN;
    END IF;

    RETURN QUERY
    WITH wanted AS (
        {{ requests.wanted_models('id AS model_id') | indent(8) }}
    ), pieces AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_cover(p_start, p_end)
    ), parts AS (
        SELECT
            c.sign, t.model_id, {{ each('t.{name}') }}
        FROM pieces AS c
        JOIN stats_schema.{{ rollup('months').table }} AS t
            ON t.month >= c.first_day AND (t.month < c.end_day OR c.end_day IS NULL)
        WHERE c.tier = 'months'
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT
            c.sign, t.model_id, {{ each('t.{name}') }}
        FROM pieces AS c
        JOIN stats_schema.{{ rollup('days').table }} AS t ON t.day >= c.first_day AND t.day < c.end_day
        WHERE c.tier = 'days'
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        -- Of the arrays, only the part that lies between; taken apart by SELECT, since FROM would put each aside first.
        SELECT
            t.sign, t.model_id,
            {{ each('unnest(t.slot_{name}[t.first:t.last])', 12) }}
        FROM (
            SELECT
                c.sign, t.*,
                width_bucket((c.first_slot - 1)::smallint, t.slots) + 1 AS first,
                width_bucket((c.end_slot - 1)::smallint, t.slots) AS last
            FROM pieces AS c
            JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day = c.first_day
            WHERE c.tier = 'slots'
              AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
            OFFSET 0
        ) AS t
        UNION ALL
        SELECT
            c.sign, t.model_id, {{ each('t.{name}') }}
        FROM pieces AS c
        JOIN stats_schema.chat_stats_deltas AS t ON t.bucket >= c.starts AND (t.bucket < c.ends OR c.ends IS NULL)
        WHERE c.tier = 'deltas'
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
        UNION ALL
        SELECT
            r.sign, r.model_id,
            {{ requests.of_request() | indent(12) }}
        FROM pieces AS c
        CROSS JOIN {{ requests.absent() }}
        CROSS JOIN LATERAL (
            SELECT
                c.sign, model_id, status,
                {{ requests.numbers() | indent(16) }}
            FROM gateway_schema.chat_completion_requests
            WHERE c.tier = 'requests' AND created_at >= c.starts AND created_at < c.ends
              AND model_id IS NOT NULL
              AND (all_models OR model_id IN (SELECT w.model_id FROM wanted AS w))
        ) AS r
        UNION ALL
        -- A bucket that was purged counts as a whole where it begins.
        SELECT
            c.sign, t.model_id, {{ each('t.{name}') }}
        FROM pieces AS c
        CROSS JOIN LATERAL stats_schema.chat_stats_purged_slots(c.starts, c.ends) AS t
        WHERE c.tier = 'requests'
          AND (all_models OR t.model_id IN (SELECT w.model_id FROM wanted AS w))
    ), signed AS (
        SELECT
            p.sign, p.model_id,
            {{ each('sum(p.{name}) AS {name}', 12) }}
        FROM parts AS p (sign, model_id, {{ each('{name}') }})
        GROUP BY p.sign, p.model_id
    )
    SELECT
        p.model_id,
        {{ each('sum(p.sign * p.{name}){cast}', 8) }}
    FROM signed AS p
    GROUP BY p.model_id
    HAVING sum(p.sign * p.requests) <> 0;
END
$function$;
$install$);

-- The planner does not know that ragged edges are short: it takes them for a ninth of the table, for which it would
-- compile code, and where rows are not in the order of their time even read all of it.
ALTER FUNCTION chat_stats_rolled_up(timestamptz, timestamptz, text, text) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up(timestamptz, timestamptz, text, text) SET enable_seqscan = off;
