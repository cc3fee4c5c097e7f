-- How many requests were purged of which the sums are kept, and what keeping them takes.
SELECT
    COALESCE(sum(u.requests), 0)::bigint AS purged_requests,
    pg_total_relation_size('chat_stats_purged') AS purged_bytes
FROM chat_stats_purged AS t CROSS JOIN LATERAL unnest(t.slot_requests) AS u (requests)
