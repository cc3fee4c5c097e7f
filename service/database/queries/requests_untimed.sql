-- Requests without a value of the column of the order, which come after those that have one.
-- $1: status, or NULL; $2, $3: whether the last page ended among them, and after which id; $4: rows to skip,
-- $5: rows to return; $6, $7: start and end of the time range, or NULL.
SELECT {columns}
FROM (
    SELECT b.*
    FROM (
        SELECT
            NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id,
            NULL::numeric AS cost_usd
    ) AS absent
    CROSS JOIN LATERAL ({branches}) AS b
    ORDER BY b.id {direction}
    OFFSET $4 LIMIT $5
) AS r
ORDER BY r.id {direction}

-- branch
(
    SELECT
        id, model_id, input_tokens, output_tokens, processing_time_ms, status, created_at,
        request_id, error_message, user_id, readable.cost_usd{further}
    FROM gateway_schema.chat_completion_requests AS q
    WHERE {models}
      AND {by} IS NULL
      AND ($6::timestamptz IS NULL OR created_at >= $6)
      AND ($7::timestamptz IS NULL OR created_at < $7)
      AND {status}
      AND (NOT $2::boolean OR id {beyond} $3)
    ORDER BY id {direction}
    LIMIT $4::bigint + $5::bigint
)
