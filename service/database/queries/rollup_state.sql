-- What may keep the rollup from being read, as far as the catalogue tells: $1 are its tables, $2 its triggers.
SELECT
    count(t.tgname) AS triggers,
    count(t.tgname) FILTER (WHERE t.tgenabled IN ('O', 'A')) AS firing,
    ARRAY(
        SELECT n.name FROM unnest($1::text[]) AS n (name) WHERE to_regclass('stats_schema.' || n.name) IS NULL
    ) AS missing,
    ARRAY(
        SELECT n.name FROM unnest($1::text[]) AS n (name)
        WHERE NOT has_table_privilege(to_regclass('stats_schema.' || n.name), 'SELECT')
    ) AS forbidden
FROM pg_trigger AS t
WHERE t.tgrelid = 'gateway_schema.chat_completion_requests'::regclass AND t.tgname = ANY ($2::text[])
