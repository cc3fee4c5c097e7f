-- Where the audit stands, and its limits: the end of the bucket that is being written now, the starts of the last day
-- and of the last week. No row: the rollup is not read, so that there is nothing to audit.
SELECT
    s.audits,
    CASE WHEN s.audited_week_from > n.bucket - interval '168 hours' THEN s.audited_week_from END::text AS audited_week_from,
    s.audited_from::text,
    (n.bucket + interval '15 minutes')::text AS end_of_now,
    (n.bucket - interval '24 hours')::text AS day_ago,
    (n.bucket - interval '168 hours')::text AS week_ago
FROM stats_schema.chat_stats_rollup_state AS s
CROSS JOIN (SELECT stats_schema.chat_stats_bucket(now()) AS bucket) AS n
WHERE s.ready
