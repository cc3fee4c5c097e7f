-- The statuses in use, by one descent of the index on (status, created_at) for each; at most $1.
WITH RECURSIVE used AS (
    (SELECT status FROM gateway_schema.chat_completion_requests WHERE status IS NOT NULL ORDER BY status LIMIT 1)
    UNION ALL
    SELECT (
        SELECT r.status FROM gateway_schema.chat_completion_requests AS r
        WHERE r.status > used.status ORDER BY r.status LIMIT 1
    )
    FROM used WHERE used.status IS NOT NULL
)
SELECT rtrim(concat(status)) AS status FROM used WHERE status IS NOT NULL LIMIT $1
