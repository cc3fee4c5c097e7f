{% import 'macros/rollups.sql.j2' as kept %}
-- Our role, and which of the tables $1, which have row level security for it, hide rows from it. None does when a
-- policy lets each row through, no other takes any back, and no sums of purged requests, which are for roles without
-- row level security, are left out. Then the tables may be read, with row level security.
SELECT hides.role, hides.tables, CASE WHEN hides.tables IS NULL THEN set_config('row_security', 'on', true) END
FROM (
    SELECT current_user::text AS role, array_agg(t.name) FILTER (WHERE NOT f.lets_through OR f.takes_back OR (
        t.name = 'chat_completion_requests'
        AND {{ kept.has_purged() | indent(8) }}
    )) AS tables
    FROM unnest($1::text[]) AS t (name)
    JOIN (VALUES
        ('providers', to_regclass('gateway_schema.providers')),
        ('models', to_regclass('gateway_schema.models')),
        ('chat_completion_requests', to_regclass('gateway_schema.chat_completion_requests'))
    ) AS g (name, relation) ON g.name = t.name
    CROSS JOIN LATERAL (
        SELECT
            COALESCE(bool_or(p.polpermissive AND p.is_true), false) AS lets_through,
            COALESCE(bool_or(NOT p.polpermissive AND NOT p.is_true), false) AS takes_back
        FROM (
            SELECT a.polpermissive, COALESCE(pg_get_expr(a.polqual, a.polrelid) = 'true', false) AS is_true
            FROM pg_policy AS a
            WHERE a.polrelid = g.relation::oid AND a.polcmd IN ('r'::"char", '*'::"char")
              AND EXISTS (
                  SELECT FROM unnest(a.polroles) AS r (id) WHERE r.id = 0::oid OR pg_has_role(r.id, 'USAGE')
              )
        ) AS p
    ) AS f
) AS hides
