-- As plot_slots.sql, for Citus, which plans no probe of a distributed table for each slot: all requests of the slots are
-- ranked, those of a model where they are, and the first of each model are ranked again. The slots ($2, $3) ascend.
SELECT r.slot, {columns}
FROM (
    SELECT b.*, row_number() OVER (PARTITION BY b.slot ORDER BY b.created_at, b.id) AS place
    FROM ({branches}) AS b
    WHERE b.rank <= $4
) AS r
WHERE r.place <= $4
ORDER BY r.slot, r.created_at, r.id

-- branch
(
    SELECT
        r.*, row_number() OVER (PARTITION BY r.model_id, r.slot ORDER BY r.created_at, r.id) AS rank
    FROM (
        SELECT
            id, model_id, input_tokens, output_tokens, processing_time_ms, created_at,
            width_bucket((extract(epoch FROM created_at::timestamptz) * 1000000)::bigint, $2::bigint[]) AS slot
        FROM gateway_schema.chat_completion_requests AS q
        CROSS JOIN (SELECT NULL::text AS error_message) AS absent
        WHERE {models}
          AND created_at >= 'epoch'::timestamptz + ($2::bigint[])[1] * interval '1 microsecond'
          AND created_at < 'epoch'::timestamptz
              + ($3::bigint[])[cardinality($3::bigint[])] * interval '1 microsecond'
          AND {status}
    ) AS r
    WHERE (extract(epoch FROM r.created_at::timestamptz) * 1000000)::bigint < ($3::bigint[])[r.slot]
)
