-- Requests that have a value of the column of the order, after the place ($4, $5) where the last page ended.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit. $6: rows to skip, $7: rows to return.
SELECT {columns}
FROM (
    SELECT b.*
    FROM (
        -- An optional column that the requests lack is found one scope out, here.
        SELECT
            NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id,
            NULL::numeric AS cost_usd
    ) AS absent
    CROSS JOIN LATERAL ({branches}) AS b
    ORDER BY b.{by} {direction}, b.id {direction}
    OFFSET $6 LIMIT $7
) AS r
ORDER BY r.{by} {direction}, r.id {direction}

-- branch: one for each model, or one for many. Not NULLS LAST, which no index has: requests without a value
-- are read apart, afterwards. By `lead` first: see `Branch` in service/explorer/reading.py.
(
    SELECT
        id, model_id, input_tokens, output_tokens, processing_time_ms, status, created_at,
        request_id, error_message, user_id, readable.cost_usd{further}
    FROM gateway_schema.chat_completion_requests AS q
    WHERE {models}
      AND {by} IS NOT NULL
      AND ($1::timestamptz IS NULL OR created_at >= $1)
      AND ($2::timestamptz IS NULL OR created_at < $2)
      AND {status}
      AND ($4::text IS NULL OR ({by}, id) {beyond} ($4::text::{type}, $5))
    ORDER BY {lead} {direction}, {by} {direction}, id {direction}
    LIMIT $6::bigint + $7::bigint
)
