-- The first moment of which there are requests, within the years that all programs know; no row: none.
SELECT
    CASE WHEN created_at < '0001-01-01T00:00:00Z'::timestamptz THEN '0001-01-01T00:00:00Z'::timestamptz
         WHEN created_at > '9999-01-01T00:00:00Z'::timestamptz THEN '9999-01-01T00:00:00Z'::timestamptz
         ELSE created_at::timestamptz END AS first_moment
FROM gateway_schema.chat_completion_requests
WHERE created_at > '-infinity' AND created_at < 'infinity'
ORDER BY created_at
LIMIT 1
