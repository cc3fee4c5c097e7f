-- Revokes the key of the name $1; no row: there is none.
DELETE FROM stats_schema.chat_stats_keys AS k WHERE k.name = $1 RETURNING k.name
