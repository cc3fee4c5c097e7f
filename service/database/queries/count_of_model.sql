-- fallback_with_counts: the requests of one model, from an index alone.
-- $1: the model's id as text; $2, $3: start and end of the time range. NULL: no limit.
SELECT count(*)
FROM gateway_schema.chat_completion_requests
WHERE model_id = (SELECT id FROM gateway_schema.models WHERE id::text = $1)
  AND ($2::timestamptz IS NULL OR created_at >= $2)
  AND ($3::timestamptz IS NULL OR created_at < $3)
