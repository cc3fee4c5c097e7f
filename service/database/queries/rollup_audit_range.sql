-- Where the range of whole buckets starts that ends at $1, goes back to $2 at most, and has at most $3 requests and $4
-- rows of the rollup and of what was purged; but at least a bucket, or, for the rows, a day. Whether it goes back to $2;
-- and for a bucket that alone has more requests, how many the rollup has there.
SELECT
    p.start::text,
    p.start <= $2::text::timestamptz AS whole,
    CASE WHEN p.crowded THEN (
        SELECT COALESCE(sum(s.requests), 0)::bigint
        FROM stats_schema.{{ rollup('total').tables.slots }} AS t
        CROSS JOIN LATERAL unnest(t.slots, t.slot_requests) AS s (slot, requests)
        WHERE t.day = stats_schema.chat_stats_day(p.start) AND s.slot = stats_schema.chat_stats_slot(p.start)
    ) END AS crowd
FROM (
    SELECT
        LEAST(c.start, $1::text::timestamptz - interval '15 minutes') AS start,
        c.start >= $1::text::timestamptz AS crowded
    FROM (
        SELECT GREATEST(
            $2::text::timestamptz,
            (
                SELECT stats_schema.chat_stats_bucket(r.created_at::timestamptz) + interval '15 minutes'
                FROM gateway_schema.chat_completion_requests AS r
                WHERE r.created_at >= $2::text::timestamptz AND r.created_at < $1::text::timestamptz
                ORDER BY r.created_at DESC
                OFFSET $3::int LIMIT 1
            ),
            (
                SELECT stats_schema.chat_stats_bucket_at(
                    LEAST(t.day + 1, stats_schema.chat_stats_day($1::text::timestamptz - interval '1 microsecond')), 0::smallint
                )
                FROM (
                    SELECT k.day FROM stats_schema.{{ rollup('model').tables.slots }} AS k
                    UNION ALL
                    SELECT k.day FROM stats_schema.{{ rollup('model').purged }} AS k
                ) AS t
                WHERE t.day BETWEEN stats_schema.chat_stats_day($2::text::timestamptz)
                    AND stats_schema.chat_stats_day($1::text::timestamptz - interval '1 microsecond')
                ORDER BY t.day DESC
                OFFSET $4::int LIMIT 1
            )
        ) AS start
    ) AS c
) AS p
