-- What there is to purge between $1 and $2.
SELECT
    count(*) AS requests,
    count(DISTINCT stats_schema.chat_stats_bucket(created_at::timestamptz)) AS buckets,
    min(created_at)::timestamptz::text AS oldest,
    max(created_at)::timestamptz::text AS newest
FROM gateway_schema.chat_completion_requests
WHERE created_at >= $1::text::timestamptz AND created_at < $2::text::timestamptz
