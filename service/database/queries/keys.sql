-- The keys with their scopes, by name; none of a table that the owner of our other tables does not own.
-- (Times within the years that clients know.)
SELECT
    k.name, k.hash, k.scope::text AS scope,
    LEAST(GREATEST(k.created_at, '0001-01-01T00:00:00Z'), '9999-12-31T00:00:00Z') AS created_at
FROM stats_schema.chat_stats_keys AS k
WHERE (SELECT c.relowner FROM pg_class AS c WHERE c.oid = to_regclass('stats_schema.chat_stats_keys')::oid)
    = (SELECT c.relowner FROM pg_class AS c WHERE c.oid = to_regclass('stats_schema.chat_stats_rollup_state')::oid)
ORDER BY k.name
