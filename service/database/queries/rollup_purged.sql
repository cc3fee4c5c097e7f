{% import 'macros/rollups.sql.j2' as kept %}
-- How many requests were purged whose sums are kept (of how many of them since others deleted them), until when, and what
-- keeping them takes.
SELECT
    COALESCE(sum(u.requests), 0)::bigint AS purged_requests,
    COALESCE(sum(u.requests) FILTER (WHERE u.unmoved), 0)::bigint + COALESCE((
        SELECT s.retained_requests FROM stats_schema.chat_stats_rollup_state AS s
    ), 0) AS retained_requests,
    -- (Within the years that clients know.)
    CASE WHEN count(*) > 0 THEN LEAST(
        GREATEST(max(u.bucket) + interval '15 minutes', '0001-01-01T00:00:00Z'), '9999-12-31T00:00:00Z'
    ) END AS purged_before,
    (
        SELECT sum(pg_total_relation_size(to_regclass('stats_schema.' || t.name)))::bigint
        FROM unnest(ARRAY[{{ kept.purged_tables() }}]) AS t (name)
    ) AS purged_bytes
FROM (
    SELECT stats_schema.chat_stats_bucket_at(t.day, s.slot) AS bucket, s.requests, false AS unmoved
    FROM stats_schema.{{ rollup('total').purged }} AS t CROSS JOIN LATERAL unnest(t.slots, t.slot_requests) AS s (slot, requests)
    UNION ALL
    SELECT k.bucket, k.requests, true FROM stats_schema.chat_stats_kept AS k
{% if on_shards is defined %}
    UNION ALL
    SELECT k.bucket, k.requests, false FROM stats_schema.chat_stats_kept_on_shards() AS k
{% endif %}
) AS u
