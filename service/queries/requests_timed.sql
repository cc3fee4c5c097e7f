-- Requests that have a time, newest first, after the place ($4, $5) where the last page ended.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit. $6: rows to skip, $7: rows to return.
SELECT {columns}
FROM (
    -- An optional column that the requests lack is found one scope out, here.
    SELECT
        NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id, NULL::numeric AS cost_usd
) AS absent
CROSS JOIN LATERAL ({requests}) AS r
WHERE r.created_at IS NOT NULL
  AND ($1::timestamptz IS NULL OR r.created_at >= $1)
  AND ($2::timestamptz IS NULL OR r.created_at < $2)
  AND ($3::text IS NULL OR {status})
  AND ($4::text IS NULL OR (r.created_at, r.id) < ($4::text::timestamptz, $5))
-- Not NULLS LAST, which no index has: those without a time are read apart, afterwards.
ORDER BY r.created_at DESC, r.id DESC
OFFSET $6 LIMIT $7
