-- Those of the rollups named $1 that our role may read and that are right, besides what chat_stats_rollup_ready() says,
-- the smallest first. $2 has the names of their tables, one text for each: separated by blanks.
SELECT n.name
FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS n (name, tables)
WHERE stats_schema.chat_stats_rollup_ready() AND NOT EXISTS (
    SELECT FROM unnest(string_to_array(n.tables, ' ')) AS t (name)
    WHERE NOT COALESCE(has_table_privilege(to_regclass('stats_schema.' || t.name), 'SELECT'), false)
       OR row_security_active(to_regclass('stats_schema.' || t.name)::oid)
)
ORDER BY (
    SELECT sum(pg_relation_size(to_regclass('stats_schema.' || t.name)))
    FROM unnest(string_to_array(n.tables, ' ')) AS t (name)
), n.name
