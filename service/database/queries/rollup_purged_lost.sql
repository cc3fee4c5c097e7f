-- Until when requests were purged, if nothing is kept of them any more; else NULL.
SELECT (
    SELECT purged_before::text FROM stats_schema.chat_stats_rollup_state
    WHERE purged_before IS NOT NULL AND ({% for rollup in rollups %}NOT EXISTS (SELECT FROM stats_schema.{{ rollup.purged }}){{ ' OR ' if not loop.last }}{% endfor %})
)
