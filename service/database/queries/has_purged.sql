-- Whether there may be sums of requests that were purged, without needing a function or a right.
SELECT COALESCE(pg_relation_size(to_regclass('stats_schema.chat_stats_purged')), 0) > 0
   AND NOT row_security_active('gateway_schema.chat_completion_requests') AS has_purged
