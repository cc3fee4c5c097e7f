-- Keeps a key by its name $1, hash $2 and scope $3; no row: there is one of that name.
INSERT INTO stats_schema.chat_stats_keys (name, hash, scope)
VALUES ($1, $2, $3::text::jsonb)
ON CONFLICT (name) DO NOTHING
RETURNING name
