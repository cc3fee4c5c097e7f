-- Requests without a time, which come after those that have one.
-- $1: status, or NULL; $2, $3: whether the last page ended among them, and after which id; $4: rows to skip,
-- $5: rows to return.
SELECT {columns}
FROM (
    SELECT
        NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id, NULL::numeric AS cost_usd
) AS absent
CROSS JOIN LATERAL ({requests}) AS r
WHERE r.created_at IS NULL
  AND ($1::text IS NULL OR {status})
  AND (NOT $2::boolean OR r.id < $3)
ORDER BY r.id DESC
OFFSET $4 LIMIT $5
