-- How many requests there are: from indexes where those have what is asked for.
-- $1, $2: start and end of the time range; $3: status. NULL: no limit. $4: whether only those that have a time.
SELECT sum(b.count)::bigint AS count
FROM ({branches}) AS b

-- branch
(
    SELECT count(*) AS count
    FROM gateway_schema.chat_completion_requests
    WHERE {models}
      AND ($1::timestamptz IS NULL OR created_at >= $1)
      AND ($2::timestamptz IS NULL OR created_at < $2)
      AND {status}
      AND (NOT $4::boolean OR created_at IS NOT NULL)
)
