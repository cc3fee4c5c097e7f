-- Whether statistics between $1 and $2 are exact to the microsecond, or only to the 15 minutes.
SELECT stats_schema.chat_stats_range_is_exact($1::timestamptz, $2::timestamptz)
