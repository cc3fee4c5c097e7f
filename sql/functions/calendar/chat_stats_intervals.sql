-- The intervals of a time series that [p_start, p_end) touches, in order, empty ones too.
SELECT chat_stats_install('chat_stats_intervals', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_intervals(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (interval_start timestamptz)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    ELSIF p_interval IN ('15m', '1h') THEN
        -- Each bucket says in which interval it lies, so that a change of the clock needs no rule of its own.
        RETURN QUERY
        SELECT DISTINCT stats_schema.chat_stats_interval_start(p_interval, b.bucket, p_timezone)
        FROM generate_series(
            stats_schema.chat_stats_bucket(p_start), p_end - interval '1 microsecond', interval '15 minutes'
        ) AS b (bucket)
        ORDER BY 1;
    ELSE
        -- By the calendar, not by the clock: some days have 23 or 25 hours.
        RETURN QUERY
        -- (DISTINCT: a day that a zone left out, when it changed sides of the date line, is the next one.)
        SELECT DISTINCT
            stats_schema.chat_stats_interval_start(p_interval, d.local_start AT TIME ZONE p_timezone, p_timezone)
        FROM generate_series(
            stats_schema.chat_stats_interval_start(p_interval,
            stats_schema.chat_stats_bucket(p_start), p_timezone) AT TIME ZONE p_timezone,
            (p_end - interval '1 microsecond') AT TIME ZONE p_timezone,
            CASE p_interval WHEN '1d' THEN '1 day' WHEN '1w' THEN '7 days' ELSE '1 month' END::interval
        ) AS d (local_start)
        ORDER BY 1;
    END IF;
END
$function$;
$install$);
