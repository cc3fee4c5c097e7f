{% import 'macros/requests.sql.j2' as requests %}
-- The numbers of chat_stats_scan_series(), from the rollup: days, the slots of those that lie in several intervals or
-- at the edges, the deltas that are not folded yet, and from the requests themselves only the ragged edges.
SELECT chat_stats_claim_function('chat_stats_rolled_up_series');

SELECT chat_stats_install('chat_stats_rolled_up_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text
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
    -- The whole buckets: [first_bucket, end_bucket).
    first_bucket timestamptz := LEAST(p_end, CASE
        WHEN p_start > stats_schema.chat_stats_bucket(p_start)
            THEN stats_schema.chat_stats_bucket(p_start) + interval '15 minutes'
        ELSE p_start END);
    end_bucket timestamptz := LEAST(p_end, GREATEST(stats_schema.chat_stats_bucket(p_end), first_bucket));
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    RETURN QUERY
    WITH wanted AS (
        {{ requests.wanted_models('id AS model_id') | indent(8) }}
    ), days AS MATERIALIZED (
        SELECT * FROM stats_schema.chat_stats_series_days(p_interval, p_timezone, first_bucket, end_bucket)
    ), parts AS (
        -- A day or a month that lies in one interval as a whole counts by its totals; of the others each slot counts.
        SELECT
            c.interval_start, t.model_id,
            {{ each('t.{name}') }}
        FROM days AS c
        JOIN stats_schema.{{ rollup('days').table }} AS t ON t.day = c.day
        WHERE c.interval_start IS NOT NULL AND NOT c.is_month
          AND (all_models OR t.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            c.interval_start, t.model_id,
            {{ each('t.{name}') }}
        FROM days AS c
        JOIN stats_schema.{{ rollup('months').table }} AS t ON t.month = c.day
        WHERE c.is_month AND (all_models OR t.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            s.slot_intervals[s.slot + 1], s.model_id,
            {{ each('s.{name}') }}
        FROM (
            -- Taken apart by SELECT, since FROM would put each aside first.
            SELECT
                c.slot_intervals, t.model_id, unnest(t.slots) AS slot,
                {{ each('unnest(t.slot_{name}) AS {name}', 16) }}
            FROM days AS c
            JOIN stats_schema.{{ rollup('slots').table }} AS t ON t.day = c.day
            WHERE c.interval_start IS NULL
              AND (all_models OR t.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        ) AS s
        WHERE s.slot_intervals[s.slot + 1] IS NOT NULL
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, d.bucket, p_timezone), d.model_id,
            {{ each('d.{name}') }}
        FROM stats_schema.chat_stats_deltas AS d
        WHERE d.bucket >= first_bucket AND d.bucket < end_bucket
          AND (all_models OR d.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval,
            stats_schema.chat_stats_bucket(r.created_at::timestamptz), p_timezone), r.model_id,
            {{ requests.of_request() | indent(12) }}
        FROM {{ requests.absent() }}
        CROSS JOIN LATERAL (
            SELECT
                model_id, created_at, status,
                {{ requests.numbers() | indent(16) }}
            FROM (  -- apart: with OR, an index on model and time would be read for all times of the model
                SELECT * FROM gateway_schema.chat_completion_requests
                WHERE created_at >= p_start AND created_at < first_bucket
                UNION ALL
                SELECT * FROM gateway_schema.chat_completion_requests
                WHERE created_at >= end_bucket AND created_at < p_end
            ) AS edges
            WHERE model_id IS NOT NULL
              AND (all_models OR model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        ) AS r
        UNION ALL
        -- A bucket that was purged counts as a whole where it begins.
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            {{ each('s.{name}') }}
        FROM stats_schema.chat_stats_purged_slots(end_bucket, p_end) AS s
        WHERE (all_models OR s.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone), s.model_id,
            {{ each('s.{name}') }}
        FROM stats_schema.chat_stats_purged_slots(p_start, first_bucket) AS s
        WHERE (all_models OR s.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
    )
    SELECT
        p.interval_start, p.model_id,
        {{ each('sum(p.{name}){cast}', 8) }}
    FROM parts AS p (
        interval_start, model_id, {{ each('{name}') }}
    )
    GROUP BY p.interval_start, p.model_id
    HAVING sum(p.requests) <> 0;
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons.
ALTER FUNCTION chat_stats_rolled_up_series(text, text, timestamptz, timestamptz, text, text) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_series(text, text, timestamptz, timestamptz, text, text) SET enable_seqscan = off;
