{% import 'macros/values.sql.j2' as values %}
{% import 'macros/requests.sql.j2' as requests %}
-- fallback_optimized of the percentiles: the rows of get_chat_request_percentiles(), needing no function.
-- $1: none, provider, model or both; $2, $3: start and end of the time range; $4, $5: a provider's and a model's id as
-- text. NULL: no limit.
WITH catalogue AS (
    SELECT
        m.id AS model_id,
        CASE WHEN $1::text = 'provider' THEN p.id::text WHEN $1 IN ('model', 'both') THEN m.id::text END AS group_id
    FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
    WHERE ($4::text IS NULL OR p.id::text = $4)
      AND ($5::text IS NULL OR m.id::text = $5)
), histograms AS (
    SELECT
        model_id,
        {{ values.bin('processing_time_ms::numeric') | indent(8) }} AS bin,
        count(*) AS n
    FROM gateway_schema.chat_completion_requests
    WHERE ($2::timestamptz IS NULL OR created_at >= $2)
      AND ($3::timestamptz IS NULL OR created_at < $3)
      AND ($4::text IS NULL AND $5::text IS NULL
           OR model_id = ANY (ARRAY(SELECT c.model_id FROM catalogue AS c)))
      AND {{ requests.in_bounds(measure('time_ms').column.name) }}
    GROUP BY 1, 2
), merged AS (
    SELECT c.group_id, h.bin, sum(h.n)::double precision AS n
    FROM histograms AS h
    JOIN catalogue AS c ON c.model_id = h.model_id
    GROUP BY 1, 2
    UNION ALL
    SELECT NULL, h.bin, sum(h.n)::double precision
    FROM histograms AS h
    JOIN catalogue AS c ON c.model_id = h.model_id
    WHERE $1 = 'both'
    GROUP BY 2
), ranked AS (
    SELECT
        group_id,
        sum(n) OVER (PARTITION BY group_id ORDER BY bin ROWS UNBOUNDED PRECEDING) AS up_to,
        sum(n) OVER (PARTITION BY group_id) AS total,
        {{ values.bin_value('bin') | indent(8) }} AS time_ms
    FROM merged
)
SELECT
    group_id,
    {{ values.percentiles() | indent(4) }}
FROM ranked
GROUP BY group_id
UNION ALL
SELECT NULL, 0, 0, 0, 0
WHERE $1 = 'none' AND NOT EXISTS (SELECT FROM merged)
ORDER BY group_id
