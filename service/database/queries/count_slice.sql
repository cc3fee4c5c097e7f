-- fallback: counts per model over the next $2 requests by key, those after $1 (NULL: from the first).
-- $3, $4: start and end of the time range. NULL: no limit.
WITH slice AS MATERIALIZED (
    SELECT id, model_id, created_at
    FROM gateway_schema.chat_completion_requests
    WHERE id > $1 OR $1 IS NULL
    ORDER BY id
    LIMIT $2
)
SELECT
    model_id,
    count(*) FILTER (
        WHERE ($3::timestamptz IS NULL OR created_at >= $3) AND ($4::timestamptz IS NULL OR created_at < $4)
    ) AS request_count,
    (SELECT id FROM slice ORDER BY id DESC LIMIT 1) AS last_id
FROM slice
GROUP BY model_id
