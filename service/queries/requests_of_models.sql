-- The requests of many models, in order of time. IS TRUE keeps the condition a filter: as a join, it would
-- lose the index's order.
SELECT
    id, model_id, input_tokens, output_tokens, processing_time_ms, status, created_at,
    request_id, error_message, user_id, cost_usd
FROM chat_completion_requests
WHERE (model_id IN (SELECT m.id FROM models AS m WHERE m.id = ANY ({models}))) IS TRUE
