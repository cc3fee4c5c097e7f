-- As retention_next_chunk.sql, for Citus, which plans no correlated subquery: by the first request and the one after $2.
SELECT
    f.start::text,
    CASE WHEN isfinite(f.start) THEN LEAST(
        $3::text::timestamptz, date_trunc('day', f.start, 'UTC') + $4::int * interval '1 day', f.bucket + interval '15 minutes'
    ) ELSE '4714-11-24 00:00:00+00 BC' END::text AS end
FROM (
    SELECT
        min(b.bucket) AS start,
        min(b.bucket) FILTER (WHERE b.requests > $2) AS bucket
    FROM (
        SELECT s.bucket, sum(s.requests) OVER (ORDER BY s.bucket) AS requests
        FROM (
            SELECT stats_schema.chat_stats_bucket(r.created_at::timestamptz) AS bucket, count(*) AS requests
            FROM gateway_schema.chat_completion_requests AS r
            WHERE r.created_at >= $1::text::timestamptz AND r.created_at < $3::text::timestamptz
            GROUP BY 1
        ) AS s
    ) AS b
) AS f
WHERE f.start IS NOT NULL
