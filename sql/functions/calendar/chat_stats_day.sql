-- The UTC day of a bucket. Requests without created_at have no bucket: they are kept under a day that no
-- timestamp reaches.
SELECT chat_stats_install('chat_stats_day', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_day(p_bucket timestamptz)
RETURNS date
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN COALESCE((p_bucket AT TIME ZONE 'UTC')::date, '5874897-12-31'::date);
$install$);
