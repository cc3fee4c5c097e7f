-- Where the chunk that begins at $1 ends: at the end of the bucket in which its last request lies.
SELECT COALESCE((
    SELECT chat_stats_bucket(r.created_at) + interval '15 minutes'
    FROM chat_completion_requests AS r
    WHERE r.created_at >= $1::text::timestamptz AND r.created_at < '294276-12-31' AND isfinite(r.created_at)
    ORDER BY r.created_at
    OFFSET $2 LIMIT 1
), 'infinity')::text AS place
