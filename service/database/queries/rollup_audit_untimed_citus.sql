-- As rollup_audit_untimed.sql, for Citus, which plans no query of both its nodes and our tables: where the rollup has more
-- than $1 of them.
SELECT u.start::text, u.end::text, CASE WHEN d.requests > $1::int THEN d.requests END AS crowd
FROM (
    VALUES
        (NULL::timestamptz, NULL::timestamptz),
        ('-infinity', '4714-11-24 00:00:00+00 BC'),
        ('infinity', 'infinity')
) AS u (start, "end")
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(t.requests), 0)::bigint AS requests
    FROM stats_schema.{{ rollup('total').tables.days }} AS t
    WHERE t.day = stats_schema.chat_stats_day(u.start)
) AS d
