-- Requests without a time, which come after those that have one.
-- $1: status, or NULL; $2, $3: whether the last page ended among them, and after which id; $4: rows to skip,
-- $5: rows to return.
SELECT {columns}
FROM (
    SELECT b.*
    FROM (
        SELECT
            NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id,
            NULL::numeric AS cost_usd
    ) AS absent
    CROSS JOIN LATERAL ({branches}) AS b
    ORDER BY b.id DESC
    OFFSET $4 LIMIT $5
) AS r
ORDER BY r.id DESC

-- branch
(
    SELECT
        id, model_id, input_tokens, output_tokens, processing_time_ms, status, created_at,
        request_id, error_message, user_id, readable.cost_usd{further}
    FROM gateway_schema.chat_completion_requests
    WHERE {models}
      AND created_at IS NULL
      AND {status}
      AND (NOT $2::boolean OR id < $3)
    ORDER BY id DESC
    LIMIT $4::bigint + $5::bigint
)
