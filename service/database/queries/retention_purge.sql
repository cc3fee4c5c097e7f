-- Delete the requests between $1 and $2 and keep their sums, unless the rollup differs from them there.
SELECT deleted, differing FROM stats_schema.chat_stats_purge($1::text::timestamptz, $2::text::timestamptz)
