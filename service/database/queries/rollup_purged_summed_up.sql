{% import 'macros/rollups.sql.j2' as kept %}
-- Makes what is kept of purged requests by fewer dimensions from what is kept by further ones, where either is empty and
-- the other is not: one of them was lost, and a rebuilt rollup would disagree with itself.
SELECT FROM stats_schema.chat_stats_rollup_state FOR UPDATE;  -- the lock of chat_stats_fold()
{% for rollup in rollups if finer(rollup) %}
DELETE FROM stats_schema.{{ rollup.purged }} WHERE NOT EXISTS (SELECT FROM stats_schema.{{ finer(rollup).purged }});
INSERT INTO stats_schema.{{ rollup.purged }} ({{ kept.dims(rollup) }}day, {{ kept.columns_of_slots() }})
{{ kept.summed_up(rollup, finer(rollup)) }}
WHERE NOT EXISTS (SELECT FROM stats_schema.{{ rollup.purged }});
{% endfor %}
