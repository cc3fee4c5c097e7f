-- The bucket at a place of a day: the inverse of chat_stats_day() and chat_stats_slot().
SELECT chat_stats_install('chat_stats_bucket_at', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_bucket_at(p_day date, p_slot smallint)
RETURNS timestamptz
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE
    WHEN NOT isfinite(p_day) THEN p_day::timestamp AT TIME ZONE 'UTC'
    WHEN p_day < '294277-01-01'::date THEN (p_day + p_slot * interval '15 minutes') AT TIME ZONE 'UTC'
END;
$install$);
