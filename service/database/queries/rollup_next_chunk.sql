-- Where the chunk that begins at $1 ends: at the start of the day in which its last request ($2 of them) lies, or,
-- where that day is all of it, at the end of that request's bucket, and at $3 at the latest; and whether that is the
-- end of a day.
SELECT place::text, NOT isfinite(place) OR stats_schema.chat_stats_slot(place) = 0 AS ends_day
FROM (
    SELECT LEAST($3::text::timestamptz, (
        SELECT CASE WHEN l.day > $1::text::timestamptz THEN l.day ELSE l.bucket + interval '15 minutes' END
        FROM (
            SELECT
                stats_schema.chat_stats_bucket(r.created_at::timestamptz) AS bucket,
                stats_schema.chat_stats_bucket_at(
                    stats_schema.chat_stats_day(stats_schema.chat_stats_bucket(r.created_at::timestamptz)), 0::smallint
                ) AS day
            FROM gateway_schema.chat_completion_requests AS r
            WHERE r.created_at >= $1::text::timestamptz AND r.created_at < '294276-12-31' AND isfinite(r.created_at)
            ORDER BY r.created_at
            OFFSET $2 LIMIT 1
        ) AS l
    )) AS place
) AS p
