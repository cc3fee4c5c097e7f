-- How many models' buckets differ from the requests between $1 and $2.
SELECT count(*) FROM stats_schema.chat_stats_rollup_differences($1::text::timestamptz, $2::text::timestamptz)
