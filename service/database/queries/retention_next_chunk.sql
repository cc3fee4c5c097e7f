-- The next chunk of requests from $1 on and before $3: whole buckets of at most $4 UTC days, with about $2 requests.
-- No row when there are no more. (The earliest moment is 4714-11-24 BC, but for -infinity.)
SELECT
    f.start::text,
    CASE WHEN isfinite(f.start) THEN LEAST(
        $3::text::timestamptz,
        date_trunc('day', f.start, 'UTC') + $4::int * interval '1 day',
        (
            SELECT stats_schema.chat_stats_bucket(r.created_at::timestamptz) + interval '15 minutes'
            FROM gateway_schema.chat_completion_requests AS r
            WHERE r.created_at >= f.start AND r.created_at < $3::text::timestamptz
            ORDER BY r.created_at
            OFFSET $2 LIMIT 1
        )
    ) ELSE '4714-11-24 00:00:00+00 BC' END::text AS end
FROM (
    SELECT stats_schema.chat_stats_bucket(r.created_at::timestamptz) AS start
    FROM gateway_schema.chat_completion_requests AS r
    WHERE r.created_at >= $1::text::timestamptz AND r.created_at < $3::text::timestamptz
    ORDER BY r.created_at
    LIMIT 1
) AS f
