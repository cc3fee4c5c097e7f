{% import 'macros/values.sql.j2' as values %}
{% import 'macros/requests.sql.j2' as requests %}
{% import 'plain.sql.j2' as plain %}
-- fallback_optimized of the percentiles: the rows of chat_stats_level_percentiles(), needing no function.
-- $1, $2: start and end of the time range; $3, $4, $5: filters by provider, model and model's name. NULL: no limit.
-- $6: what to group by: none, provider, model.
WITH catalogue AS MATERIALIZED (
    {{ plain.catalogue() | indent(4) }}
), histograms AS (
    SELECT
        model_id,
        {{ values.bin('processing_time_ms::numeric') | indent(8) }} AS bin,
        count(*) AS n
    FROM gateway_schema.chat_completion_requests
    WHERE {{ plain.wanted() | indent(6) }}
      AND {{ requests.in_bounds(measure('time_ms').column.name) }}
    GROUP BY 1, 2
), merged AS (
    SELECT
        g.level,
        CASE g.level WHEN 'provider' THEN c.provider_id::text WHEN 'model' THEN c.model_id::text END AS group_id,
        h.bin,
        sum(h.n)::double precision AS n
    FROM histograms AS h
    LEFT JOIN catalogue AS c ON c.model_id = h.model_id
    CROSS JOIN unnest($6::text[]) AS g (level)
    WHERE {{ plain.selected('c.model_id') | indent(4) }}
      AND (g.level = 'none' OR c.model_id IS NOT NULL)
    GROUP BY 1, 2, 3
), ranked AS (
    SELECT
        level,
        group_id,
        sum(n) OVER (PARTITION BY level, group_id ORDER BY bin ROWS UNBOUNDED PRECEDING) AS up_to,
        sum(n) OVER (PARTITION BY level, group_id) AS total,
        {{ values.bin_value('bin') | indent(8) }} AS time_ms
    FROM merged
)
SELECT
    level,
    group_id,
    {{ values.percentiles() | indent(4) }}
FROM ranked
GROUP BY level, group_id
