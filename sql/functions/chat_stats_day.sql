-- The UTC day of a bucket. Requests without created_at have no bucket: they are kept under a day that no
-- timestamp reaches.
CREATE OR REPLACE FUNCTION chat_stats_day(p_bucket timestamptz)
RETURNS date
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT COALESCE((p_bucket AT TIME ZONE 'UTC')::date, '5874897-12-31'::date)
$function$;

SELECT chat_stats_register_function('chat_stats_day(timestamptz)');
