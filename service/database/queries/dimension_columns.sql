-- Columns of the requests ($1: their names) with their types: as declared, and of a domain the type below it.
SELECT
    a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, b.typname::text AS base,
    b.typcategory::text AS category
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN pg_type AS b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0::oid), t.oid)
WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
  AND a.attname::text = ANY ($1::text[]) AND a.attnum > 0 AND NOT a.attisdropped
