-- How many requests were purged whose sums are kept, until when, and what keeping them takes.
SELECT
    COALESCE(sum(u.requests), 0)::bigint AS purged_requests,
    -- (Within the years that clients know.)
    CASE WHEN count(*) > 0 THEN LEAST(
        GREATEST(max(stats_schema.chat_stats_bucket_at(t.day, u.slot)) + interval '15 minutes', '0001-01-01T00:00:00Z'),
        '9999-12-31T00:00:00Z'
    ) END AS purged_before,
    pg_total_relation_size('stats_schema.chat_stats_purged') AS purged_bytes
FROM stats_schema.chat_stats_purged AS t CROSS JOIN LATERAL unnest(t.slots, t.slot_requests) AS u (slot, requests)
