-- The UTC days of which the rollup has numbers and that [$1, $2) touches, as whole buckets; and where it has no
-- limits, the infinite times and the requests without one (as chat_stats_rollup_differences() takes them).
SELECT
    GREATEST(stats_schema.chat_stats_bucket_at(d.day, 0::smallint),
    stats_schema.chat_stats_bucket($1::text::timestamptz))::text AS start,
    LEAST(
        stats_schema.chat_stats_bucket_at(d.day, 0::smallint) + interval '1 day',
        CASE WHEN $2::text::timestamptz > stats_schema.chat_stats_bucket($2::text::timestamptz)
             THEN stats_schema.chat_stats_bucket($2::text::timestamptz) + interval '15 minutes'
             ELSE $2::text::timestamptz END
    )::text AS end
FROM (
    SELECT t.day FROM stats_schema.{{ rollup('total').tables.days }} AS t
    UNION
    SELECT stats_schema.chat_stats_day(t.bucket) FROM stats_schema.chat_stats_deltas AS t
) AS d
WHERE isfinite(d.day) AND d.day < '294277-01-01'
  AND d.day BETWEEN stats_schema.chat_stats_day($1::text::timestamptz)
            AND stats_schema.chat_stats_day($2::text::timestamptz)
UNION ALL
SELECT '-infinity', '4714-11-24 00:00:00+00 BC' WHERE $1::text::timestamptz = '-infinity'
UNION ALL
SELECT 'infinity', 'infinity' WHERE $2::text::timestamptz = 'infinity'
UNION ALL
SELECT NULL, NULL WHERE $1::text::timestamptz = '-infinity' AND $2::text::timestamptz = 'infinity'
