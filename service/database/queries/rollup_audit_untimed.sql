-- The requests without created_at and those at infinite times, as chat_stats_rollup_differences() takes them; and
-- where there are more than $1, how many the rollup has.
SELECT
    u.start::text,
    u.end::text,
    CASE WHEN u.requests > $1::int THEN (
        SELECT COALESCE(sum(d.requests), 0)::bigint
        FROM stats_schema.{{ rollup('total').tables.days }} AS d
        WHERE d.day = stats_schema.chat_stats_day(u.start)
    ) END AS crowd
FROM (
    SELECT NULL::timestamptz AS start, NULL::timestamptz AS end, (SELECT count(*) FROM (
        SELECT FROM gateway_schema.chat_completion_requests AS r WHERE r.created_at IS NULL LIMIT $1::int + 1
    ) AS r) AS requests
    UNION ALL
    SELECT '-infinity', '4714-11-24 00:00:00+00 BC', (SELECT count(*) FROM (
        SELECT FROM gateway_schema.chat_completion_requests AS r WHERE r.created_at = '-infinity' LIMIT $1::int + 1
    ) AS r)
    UNION ALL
    SELECT 'infinity', 'infinity', (SELECT count(*) FROM (
        SELECT FROM gateway_schema.chat_completion_requests AS r WHERE r.created_at = 'infinity' LIMIT $1::int + 1
    ) AS r)
) AS u
