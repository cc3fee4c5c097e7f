-- The first $4 requests of each slot of time; $2, $3: where each begins and ends, in microseconds since 1970.
-- $1: status, or NULL.
SELECT s.slot, p.*
FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS s (first, last, slot)
CROSS JOIN LATERAL (
    SELECT {columns}
    FROM (
        SELECT
            NULL::text AS request_id, NULL::text AS error_message, NULL::text AS user_id,
            NULL::numeric AS cost_usd
    ) AS absent
    CROSS JOIN LATERAL ({requests}) AS r
    WHERE r.created_at >= 'epoch'::timestamptz + s.first * interval '1 microsecond'
      AND r.created_at < 'epoch'::timestamptz + s.last * interval '1 microsecond'
      AND ($1::text IS NULL OR {status})
    ORDER BY r.created_at, r.id
    LIMIT $4
) AS p
ORDER BY s.slot, p.created_at, p.id
