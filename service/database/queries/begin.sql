{% import 'macros/requests.sql.j2' as requests %}
-- The first statement of a transaction, and the only one that still has the search_path of the role: finds the schemas
-- of the gateway's tables ($1) and of what is ours, which contains one of $2; leaves pg_catalog alone to be searched;
-- and applies settings ($3 with the values $4) that this server knows. NULL: not found. `unreadable` are the
-- optional columns of the requests that are no numbers, `real_columns` those that are real. `path` is the search_path
-- of before; `secured` are those of $1 that have row level security for our role.
--
-- Others may have created objects in the schemas of that search_path: everything is named with its schema, and no
-- argument or column has a type that asyncpg would have to look up first, in that search_path.
WITH gateway AS MATERIALIZED (
    SELECT t.place, t.name, c.oid AS relation, c.relowner AS owner, n.nspname::pg_catalog.text AS schema
    FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS t (name, place)
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(t.name)::pg_catalog.oid
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
), ours AS (
    SELECT c.relnamespace AS schema, c.relowner AS owner
    FROM pg_catalog.pg_class AS c
    WHERE c.relname OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::pg_catalog.name[])
    UNION ALL
    SELECT p.pronamespace, p.proowner
    FROM pg_catalog.pg_proc AS p
    WHERE p.proname OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::pg_catalog.name[])
), columns AS MATERIALIZED (
    SELECT a.attname::pg_catalog.text AS name, COALESCE(NULLIF(t.typbasetype, 0::pg_catalog.oid), t.oid) AS base
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    WHERE a.attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('chat_completion_requests')::pg_catalog.oid
      AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped
), found AS MATERIALIZED (
    SELECT
        ARRAY(SELECT g.schema FROM gateway AS g ORDER BY g.place) AS gateway,
        pg_catalog.current_schemas(false)::pg_catalog.text[] AS path,
        ARRAY(SELECT g.name FROM gateway AS g WHERE pg_catalog.row_security_active(g.relation)) AS secured,
        (
            SELECT n.nspname::pg_catalog.text
            FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s (name, place)
            JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) s.name
            JOIN ours AS o ON o.schema OPERATOR(pg_catalog.=) n.oid
            -- Not what a role created there that neither owns the schema nor a table of the gateway, and is not ours.
            WHERE pg_catalog.pg_get_userbyid(o.owner) OPERATOR(pg_catalog.=) CURRENT_USER
               OR pg_catalog.pg_has_role(o.owner, n.nspowner, 'MEMBER')
               OR EXISTS (
                   SELECT FROM gateway AS g
                   WHERE g.owner IS NOT NULL AND pg_catalog.pg_has_role(o.owner, g.owner, 'MEMBER')
               )
            ORDER BY s.place
            LIMIT 1
        ) AS stats,
        ARRAY(
            SELECT c.name
            FROM columns AS c
            WHERE c.name OPERATOR(pg_catalog.=) ANY ({{ requests.optional() }})
              AND c.base OPERATOR(pg_catalog.<>) ALL (ARRAY[
                  21::pg_catalog.oid, 23::pg_catalog.oid, 20::pg_catalog.oid, 1700::pg_catalog.oid,
                  700::pg_catalog.oid, 701::pg_catalog.oid
              ])
        ) AS unreadable,
        ARRAY(
            SELECT c.name FROM columns AS c WHERE c.base OPERATOR(pg_catalog.=) 700::pg_catalog.oid
        ) AS real_columns
)
SELECT
    pg_catalog.now() AS now,
    f.unreadable,
    f.real_columns,
    f.gateway,
    f.stats,
    f.secured,
    f.path,
    pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AS has_citus,
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
    ARRAY(
        SELECT pg_catalog.set_config(w.name, w.value, true)
        FROM ROWS FROM (
            pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])
        ) AS w (name, value)
        WHERE pg_catalog.current_setting(w.name, true) IS NOT NULL
    )
FROM found AS f
