{% import 'macros/listed_rollups.sql.j2' as listed with context %}
-- What is known of each rollup that the operator added.
SELECT
    {{ listed.declared() | indent(4) }},
    {{ listed.states() | indent(4) }}
FROM stats_schema.chat_stats_rollups AS r
ORDER BY r.place
