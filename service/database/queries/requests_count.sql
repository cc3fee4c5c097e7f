-- How many requests there are: from indexes where those have what is asked for.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit. $4: whether only those
-- that have a value of the column of the order.
SELECT sum(b.count)::bigint AS count
FROM (SELECT NULL::text AS error_message) AS absent
CROSS JOIN LATERAL ({branches}) AS b

-- branch
(
    SELECT count(*) AS count
    FROM gateway_schema.chat_completion_requests AS q
    WHERE {models}
      AND ($1::timestamptz IS NULL OR created_at >= $1)
      AND ($2::timestamptz IS NULL OR created_at < $2)
      AND {status}
      AND (NOT $4::boolean OR {by} IS NOT NULL)
)
