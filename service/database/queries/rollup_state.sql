-- What may keep our role from reading the rollup, as far as the catalogue tells: $1 are its tables, $2 its triggers.
SELECT
    quote_ident(current_user) AS role,
    to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AS has_citus,
    count(t.tgname) AS triggers,
    count(t.tgname) FILTER (WHERE t.tgenabled IN ('O', 'A')) AS firing,
    ARRAY(
        SELECT n.name FROM unnest($1::text[]) AS n (name) WHERE to_regclass('stats_schema.' || n.name) IS NULL
    ) AS missing,
    ARRAY(
        SELECT n.name FROM unnest($1::text[]) AS n (name)
        WHERE NOT has_table_privilege(to_regclass('stats_schema.' || n.name), 'SELECT')
    ) AS forbidden,
    ARRAY(
        SELECT 'chat_completion_requests'
        WHERE row_security_active('gateway_schema.chat_completion_requests'::regclass::oid)
        UNION ALL
        SELECT n.name FROM unnest($1::text[]) AS n (name)
        WHERE row_security_active(to_regclass('stats_schema.' || n.name)::oid)
    ) AS secured
FROM pg_trigger AS t
WHERE t.tgrelid = 'gateway_schema.chat_completion_requests'::regclass AND t.tgname = ANY ($2::text[])
