{% import 'macros/listed_rollups.sql.j2' as listed with context %}
-- The rollups that the operator added, as they are declared. It calls no function of ours: `chat-stats migrate` asks before
-- there are any.
SELECT
    {{ listed.declared() | indent(4) }}
FROM stats_schema.chat_stats_rollups AS r
ORDER BY r.place
