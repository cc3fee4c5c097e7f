-- The moment of the first request (DESC: of the last), of those in the calendar of ISO 8601.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit.
SELECT b.created_at::timestamptz AS created_at
FROM (SELECT NULL::text AS error_message) AS absent
CROSS JOIN LATERAL ({branches}) AS b
ORDER BY b.created_at {columns}
LIMIT 1

-- branch
(
    SELECT created_at
    FROM gateway_schema.chat_completion_requests AS q
    WHERE {models}
      AND created_at >= GREATEST($1::timestamptz, '0001-01-01')
      AND created_at < LEAST($2::timestamptz, '9999-12-31T23:59:59.999999')
      AND {status}
    ORDER BY {lead} {columns}, created_at {columns}
    LIMIT 1
)
