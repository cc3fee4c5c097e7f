{% import 'macros/rollups.sql.j2' as kept %}
-- Before a purge on Citus: from now on there may be statistics of purged requests (chat_stats_has_purged()), which are on
-- the nodes until they are folded. A day without slots stands for that.
{% for rollup in rollups %}
INSERT INTO stats_schema.{{ rollup.purged }} (day, {{ kept.columns_of_slots() }})
SELECT 'infinity', '{}', {% for m in measures %}'{}', {% endfor %}'{}', '{}', '{}'
WHERE NOT EXISTS (SELECT FROM stats_schema.{{ rollup.purged }});
{% endfor %}
