-- The types of some of the requests' columns.
SELECT a.attname AS name, format_type(a.atttypid, -1) AS type
FROM pg_attribute AS a
WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
  AND a.attname = ANY ($1::text[]) AND NOT a.attisdropped
