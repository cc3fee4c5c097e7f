-- Until when requests were purged, or went with a partition, and which tables have nothing of them any more that
-- should. No row: there are none. (What is kept by fewer dimensions can be summed up again.)
SELECT s.purged_before::text AS before, string_agg(t.name, ' and ' ORDER BY t.name) AS tables, count(*) AS lost
FROM stats_schema.chat_stats_rollup_state AS s
JOIN (
{% for rollup in rollups if not finer(rollup) %}
    SELECT '{{ rollup.purged }}' AS name, NOT EXISTS (SELECT FROM stats_schema.{{ rollup.purged }}) AS is_empty
{{ '    UNION ALL\n' if not loop.last -}}
{% endfor %}
) AS t ON t.is_empty
WHERE s.purged_before IS NOT NULL
GROUP BY s.purged_before
