-- As requests_unresolved.sql, for Citus: it plans no recursion over a distributed table, and finds the ids of each shard
-- at the same time.
SELECT u.model_id
FROM (
    SELECT DISTINCT r.model_id FROM gateway_schema.chat_completion_requests AS r WHERE r.model_id IS NOT NULL
) AS u
LEFT JOIN (
    SELECT m.id FROM gateway_schema.models AS m JOIN gateway_schema.providers AS p ON p.id = m.provider_id
) AS known ON known.id = u.model_id
WHERE known.id IS NULL
ORDER BY u.model_id
