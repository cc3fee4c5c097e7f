-- How many requests there are: from indexes where those have what is asked for.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit. $4: whether only those that have a time.
SELECT count(*)
FROM (
    SELECT
        NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id, NULL::numeric AS cost_usd
) AS absent
CROSS JOIN LATERAL ({requests}) AS r
WHERE ($1::timestamptz IS NULL OR r.created_at >= $1)
  AND ($2::timestamptz IS NULL OR r.created_at < $2)
  AND ($3::text IS NULL OR {status})
  AND (NOT $4::boolean OR r.created_at IS NOT NULL)
