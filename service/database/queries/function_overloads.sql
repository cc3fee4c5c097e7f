-- Functions that have a name of ours and are not ours, or are too many: $1 are our names, $2 the schemas that our role searches.
-- In other schemas than that of ours, `migrate` leaves them alone.
WITH named AS (
    SELECT
        p.oid, p.proname::text AS name, p.pronamespace AS schema,
        quote_ident(n.nspname::text) || '.'::text || p.proname::text || '('::text
            || oidvectortypes(p.proargtypes) || ')'::text AS qualified,
        COALESCE(obj_description(p.oid, 'pg_proc'::name) LIKE 'chat-stats;%'::text, false) AS is_ours
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.proname::text = ANY ($1::text[]) AND n.nspname::text = ANY ($2::text[])
), ours AS (
    SELECT n.schema FROM named AS n WHERE n.is_ours GROUP BY n.schema ORDER BY count(*) DESC LIMIT 1
)
SELECT
    n.name,
    string_agg(
        CASE WHEN n.schema = o.schema THEN n.oid::regprocedure::text ELSE n.qualified END, ', ' ORDER BY n.oid
    ) AS functions,
    bool_and(n.schema = o.schema) AS in_our_schema
FROM named AS n
CROSS JOIN ours AS o
WHERE NOT n.is_ours OR n.schema <> o.schema OR 1::bigint < (
    SELECT count(*) FROM named AS same WHERE same.name = n.name AND same.schema = n.schema AND same.is_ours
)
GROUP BY n.name
