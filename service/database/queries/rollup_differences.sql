-- In how many buckets of its groups each rollup differs from the requests between $1 and $2; without those that are not
-- made right yet.
SELECT d.rollup, count(*) AS places
FROM stats_schema.chat_stats_rollup_differences($1::text::timestamptz, $2::text::timestamptz) AS d
WHERE d.rollup <> ALL (ARRAY(SELECT r.name FROM stats_schema.chat_stats_rollups AS r WHERE NOT r.ready))
GROUP BY d.rollup
