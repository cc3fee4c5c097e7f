-- The same from the function, which may know of requests that are no longer in the table.
SELECT
    CASE WHEN f.moment < '0001-01-01T00:00:00Z'::timestamptz THEN '0001-01-01T00:00:00Z'::timestamptz
         WHEN f.moment > '9999-01-01T00:00:00Z'::timestamptz THEN '9999-01-01T00:00:00Z'::timestamptz
         ELSE f.moment END AS first_moment
FROM stats_schema.chat_stats_first_moment() AS f (moment)
WHERE f.moment IS NOT NULL
