{% import 'macros/rollups.sql.j2' as kept %}
-- Whether there may be sums of requests that were purged, without needing a function or a right. (What version 0.1.0
-- kept, and is not moved yet, counts as well: reading it is then an error.)
SELECT EXISTS (
    SELECT FROM unnest(ARRAY['chat_stats_purged', {{ kept.purged_tables() }}]) AS t (name)
    WHERE pg_relation_size(to_regclass('stats_schema.' || t.name)) > 0
) AND NOT row_security_active('gateway_schema.chat_completion_requests') AS has_purged
