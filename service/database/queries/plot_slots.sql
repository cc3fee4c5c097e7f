-- The first $4 requests of each slot of time; $2, $3: where each begins and ends, in microseconds since 1970.
-- $1: status, or NULL.
SELECT s.slot, {columns}
FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS s (first, last, slot)
CROSS JOIN (SELECT NULL::text AS error_message) AS absent
CROSS JOIN LATERAL (
    SELECT b.*
    FROM ({branches}) AS b
    ORDER BY b.created_at, b.id
    LIMIT $4
) AS r
ORDER BY s.slot, r.created_at, r.id

-- branch
(
    SELECT id, input_tokens, output_tokens, processing_time_ms, created_at
    FROM gateway_schema.chat_completion_requests AS q
    WHERE {models}
      AND created_at >= 'epoch'::timestamptz + s.first * interval '1 microsecond'
      AND created_at < 'epoch'::timestamptz + s.last * interval '1 microsecond'
      AND {status}
    ORDER BY {lead}, created_at, id
    LIMIT $4
)
