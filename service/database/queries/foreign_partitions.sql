-- The partitions of the requests (and what else inherits from them) that are foreign tables.
WITH RECURSIVE tree AS (
    SELECT 'gateway_schema.chat_completion_requests'::regclass::oid AS relation
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.relation
)
SELECT c.oid::regclass::text AS name
FROM tree AS t
JOIN pg_class AS c ON c.oid = t.relation
WHERE c.relkind = 'f'::"char"
ORDER BY name
