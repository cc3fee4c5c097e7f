-- The columns of the requests that our role may read, in their order, and the id of a provider as models name it.
-- `type` is that of a domain's base; `built_in`: neither it nor the type of its elements is one that a user made.
WITH RECURSIVE columns AS (
    SELECT a.attrelid, a.attnum, a.attname::text AS name, a.atttypid AS declared, a.atttypid AS base
    FROM pg_attribute AS a
    WHERE (
            a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
            OR (a.attrelid = 'gateway_schema.models'::regclass AND a.attname = 'provider_id')
        )
      AND a.attnum > 0
      AND NOT a.attisdropped
      AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
    UNION ALL
    SELECT c.attrelid, c.attnum, c.name, c.declared, t.typbasetype
    FROM columns AS c
    JOIN pg_type AS t ON t.oid = c.base
    WHERE t.typtype = 'd'
)
SELECT
    c.attrelid = 'gateway_schema.models'::regclass AS of_models,
    c.name,
    format_type(c.declared, -1) AS declared,
    t.typname::text AS type,
    t.typcategory = 'A' AS is_array,
    t.typnamespace = 'pg_catalog'::regnamespace AND (
        t.typcategory <> 'A'
        OR EXISTS (
            SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typnamespace = 'pg_catalog'::regnamespace
        )
    ) AS built_in
FROM columns AS c
JOIN pg_type AS t ON t.oid = c.base AND t.typtype <> 'd'
ORDER BY c.attrelid, c.attnum
