-- Those of some columns of the requests ($1) that are generated when they are read: triggers cannot read them.
SELECT a.attname::text AS name
FROM pg_attribute AS a
WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
  AND a.attname = ANY ($1::text[]::name[]) AND a.attgenerated = 'v'::"char" AND NOT a.attisdropped
ORDER BY a.attnum
