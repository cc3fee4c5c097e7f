-- What roles may do to our tables that only their owner should. PUBLIC is every role.
SELECT
    g.grantee,
    string_agg(DISTINCT g.privilege, ', ' ORDER BY g.privilege) AS privileges,
    string_agg(DISTINCT g.table_name, ', ' ORDER BY g.table_name) AS tables
FROM (
    SELECT
        CASE WHEN a.grantee = 0::oid THEN 'PUBLIC'::text ELSE quote_ident(r.rolname::text) END AS grantee,
        a.privilege_type AS privilege, c.oid::regclass::text AS table_name
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT t.grantee, t.privilege_type FROM aclexplode(c.relacl) AS t
        UNION ALL
        SELECT t.grantee, t.privilege_type
        FROM pg_attribute AS b CROSS JOIN LATERAL aclexplode(b.attacl) AS t
        WHERE b.attrelid = c.oid
    ) AS a
    LEFT JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE c.relnamespace = (
        SELECT s.relnamespace FROM pg_class AS s
        WHERE s.oid = to_regclass('stats_schema.chat_stats_rollup_state')::oid
    )
      AND c.relname LIKE 'chat\_stats\_%' AND c.relkind IN ('r'::"char", 'p'::"char")
      AND a.grantee <> c.relowner AND NOT COALESCE(r.rolsuper, false)
      AND (a.grantee = 0::oid OR a.privilege_type <> 'SELECT'::text)
) AS g
GROUP BY g.grantee
ORDER BY g.grantee
