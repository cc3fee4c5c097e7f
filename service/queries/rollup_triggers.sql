-- How many of our triggers ($2) the table $1 has, and how many of them fire.
SELECT count(*) AS triggers, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS firing
FROM pg_trigger
WHERE tgrelid = $1::text::regclass AND tgname = ANY ($2)
