-- Our role, and those of our tables whose row level security keeps rows from it.
SELECT current_user::text AS role, string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) AS tables
FROM pg_class AS c
WHERE c.relnamespace = (
    SELECT s.relnamespace FROM pg_class AS s
    WHERE s.oid = to_regclass('stats_schema.chat_stats_rollup_state')::oid
)
  AND c.relname LIKE 'chat\_stats\_%' AND c.relkind IN ('r'::"char", 'p'::"char")
  AND row_security_active(c.oid)
