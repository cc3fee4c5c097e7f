"""What the schemas of a role hold beside what chat-stats created, to compare before and after a migration."""

from typing import Any

from tests.sql.calls import FUNCTIONS

_FOREIGN_OBJECTS = r"""
WITH schemas AS (
    SELECT * FROM pg_namespace WHERE nspowner = current_user::regrole OR nspname = 'public'
), relations AS (
    SELECT c.*, c.oid::regclass::text AS name
    FROM pg_class AS c
    JOIN schemas AS n ON n.oid = c.relnamespace
    WHERE c.relname NOT LIKE 'chat\_stats\_%'
)
SELECT 'schema' AS kind, nspname::text AS name, concat_ws(' ', nspowner::regrole, nspacl) AS definition
FROM schemas
UNION ALL
SELECT 'relation', name, concat_ws(
    ' ', relkind, relfilenode, reloptions, relacl, relowner::regrole, relrowsecurity, relreplident,
    obj_description(oid, 'pg_class'), CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END
) FROM relations
UNION ALL
SELECT 'column', r.name || '.' || a.attname, concat_ws(
    ' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attisdropped, a.attacl,
    pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum)
)
FROM relations AS r
JOIN pg_attribute AS a ON a.attrelid = r.oid
LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'index', r.name, concat_ws(' ', pg_get_indexdef(r.oid), i.indisvalid)
FROM relations AS r JOIN pg_index AS i ON i.indexrelid = r.oid
UNION ALL
SELECT 'constraint', r.name || '.' || c.conname, concat_ws(' ', pg_get_constraintdef(c.oid), c.convalidated)
FROM relations AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
UNION ALL
SELECT 'trigger', r.name || '.' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
UNION ALL
SELECT 'type', t.oid::regtype::text, concat_ws(' ', t.typtype, e.enumlabel)
FROM pg_type AS t
JOIN schemas AS n ON n.oid = t.typnamespace
LEFT JOIN pg_enum AS e ON e.enumtypid = t.oid
WHERE ltrim(t.typname, '_') NOT LIKE 'chat\_stats\_%'  -- the row types of our tables, and arrays of them
UNION ALL
SELECT 'function', p.oid::regprocedure::text, concat_ws(
    ' ', p.prorettype::regtype, p.prosrc, p.proconfig, p.proacl, obj_description(p.oid, 'pg_proc')
)
FROM pg_proc AS p
JOIN schemas AS n ON n.oid = p.pronamespace
WHERE p.proname NOT LIKE 'chat\_stats\_%'
  AND p.proname <> ALL ($1::text[])
ORDER BY 1, 2, 3
"""


#: Our functions that are not named chat_stats_*.
_OURS = [
    *FUNCTIONS,
    "get_chat_request_stats",
    "get_chat_request_summary",
    "get_chat_request_timeseries",
    "get_chat_request_percentiles",
]


async def foreign_objects(connection: Any) -> list[str]:
    """Return all that chat-stats did not create, a line for each object, and one for each table's rows."""
    records = await connection.fetch(_FOREIGN_OBJECTS, _OURS)
    lines = [" ".join(record) for record in records]
    for record in records:
        if record["kind"] == "relation" and record["definition"].startswith(("r ", "p ", "m ")):
            rows = await connection.fetchval(
                f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {record['name']} AS t"
            )
            lines.append(f"rows {record['name']} {rows}")
    return lines


async def our_indexes(connection: Any, table: str = "chat_completion_requests") -> dict[str, str]:
    """Return the valid indexes of a table that chat-stats created: the columns of each, by name."""
    return dict(
        await connection.fetch(
            r"SELECT c.relname::text, substring(pg_get_indexdef(c.oid) FROM '\((.*)\)') "
            r"FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
            r"WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND c.relname LIKE 'chat\_stats\_%' "
            r"ORDER BY 1",
            table,
        )
    )
