-- The ids that requests name and no model has, or one without a provider: by one descent of the index on
-- (model_id, created_at) for each id in use.
WITH RECURSIVE used AS (
    (
        SELECT model_id FROM gateway_schema.chat_completion_requests
        WHERE model_id IS NOT NULL ORDER BY model_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT r.model_id FROM gateway_schema.chat_completion_requests AS r
        WHERE r.model_id > used.model_id ORDER BY r.model_id LIMIT 1
    )
    FROM used WHERE used.model_id IS NOT NULL
)
SELECT used.model_id
FROM used
WHERE used.model_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
    WHERE m.id = used.model_id
)
