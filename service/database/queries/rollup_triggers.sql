-- How many of our triggers ($1) the requests have, and how many of them fire.
SELECT count(*) AS triggers, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS firing
FROM pg_trigger
WHERE tgrelid = 'gateway_schema.chat_completion_requests'::regclass AND tgname = ANY ($1::text[])
