-- The moment of the first or last request, of those that have one in the calendar of ISO 8601.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit.
SELECT r.created_at::timestamptz AS created_at
FROM (
    SELECT
        NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id, NULL::numeric AS cost_usd
) AS absent
CROSS JOIN LATERAL ({requests}) AS r
WHERE r.created_at >= GREATEST($1::timestamptz, '0001-01-01')
  AND r.created_at < LEAST($2::timestamptz, '9999-12-31T23:59:59.999999')
  AND ($3::text IS NULL OR {status})
ORDER BY {columns}
LIMIT 1
