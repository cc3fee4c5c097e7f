-- One model's requests, for a merge with those of others: each in order from an index.
SELECT
    id, model_id, input_tokens, output_tokens, processing_time_ms, status, created_at,
    request_id, error_message, user_id, cost_usd
FROM chat_completion_requests
WHERE model_id = (SELECT m.id FROM models AS m WHERE m.id = {model})
