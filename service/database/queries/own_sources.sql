{% import 'macros/listed_rollups.sql.j2' as listed with context %}
-- What is known of each rollup that the operator added, the smallest first; and whether it may be read as far as its tables
-- and the built-in rollups are concerned (`readable`).
SELECT
    {{ listed.declared() | indent(4) }},
    {{ listed.states() | indent(4) }},
    b.ready AND t.may_read AS readable
FROM stats_schema.chat_stats_rollups AS r
CROSS JOIN (SELECT stats_schema.chat_stats_rollup_ready() AS ready OFFSET 0) AS b
CROSS JOIN LATERAL (
    SELECT sum(t.size) AS size, bool_and(t.may_read) AS may_read
    FROM {{ listed.tables('r') | indent(4) }} AS t
) AS t
ORDER BY t.size, r.name
