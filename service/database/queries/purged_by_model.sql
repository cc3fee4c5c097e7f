-- What is kept of requests that were purged, by model, for the buckets that begin between $1 and $2. NULL: no limit.
SELECT
    t.model_id::text AS model_id,
    sum(s.requests)::bigint AS total_requests,
    sum(s.successful)::bigint AS successful_requests,
    sum(s.input_tokens) AS total_input_tokens,
    sum(s.output_tokens) AS total_output_tokens,
    sum(s.timed)::bigint AS timed_requests,
    sum(s.time_ms) AS total_processing_time_ms,
    sum(s.cost_usd) AS total_cost_usd
FROM stats_schema.chat_stats_purged AS t
CROSS JOIN LATERAL unnest(
    t.slots, t.slot_requests, t.slot_successful, t.slot_input_tokens, t.slot_output_tokens,
    t.slot_timed, t.slot_time_ms, t.slot_cost_usd
) AS s (slot, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
CROSS JOIN LATERAL (
    SELECT (t.day + s.slot * interval '15 minutes') AT TIME ZONE 'UTC' AS bucket  -- an infinite day stays infinite
) AS b
WHERE ($1::timestamptz IS NULL OR b.bucket >= $1)
  AND ($2::timestamptz IS NULL OR b.bucket < $2)
GROUP BY t.model_id
HAVING sum(s.requests) <> 0
