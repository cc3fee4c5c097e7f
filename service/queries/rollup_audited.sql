-- Hours at random, of days that are over: one half of days in the rollup, one of moments at which there were
-- requests. Either side may have what the other lacks.
WITH sampled AS (
    (SELECT d.day FROM stats_schema.chat_stats_rollup_days AS d
     WHERE isfinite(d.day) AND d.day < current_date
     GROUP BY d.day ORDER BY random() LIMIT ($1::int + 1) / 2)
), bounds AS (
    SELECT
        min(created_at)::timestamptz AS first,
        LEAST(max(created_at)::timestamptz, now()) AS last
    FROM gateway_schema.chat_completion_requests
    WHERE isfinite(created_at)
)
SELECT t.start::text, (t.start + interval '1 hour')::text AS end
FROM (
    SELECT (s.day + floor(random() * 24)::int * interval '1 hour') AT TIME ZONE 'UTC' AS start
    FROM sampled AS s
    UNION
    SELECT date_trunc('hour', n.created_at)
    FROM bounds AS b
    CROSS JOIN generate_series(1, $1::int / 2)
    CROSS JOIN LATERAL (
        SELECT r.created_at::timestamptz
        FROM gateway_schema.chat_completion_requests AS r
        WHERE r.created_at >= b.first + random() * (b.last - b.first) AND r.created_at < current_date
        ORDER BY r.created_at
        LIMIT 1
    ) AS n
) AS t
