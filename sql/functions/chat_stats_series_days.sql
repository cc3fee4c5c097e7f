-- The UTC days of the buckets in [p_start, p_end), which must be edges of buckets, and to which interval of a time
-- series their slots belong: interval_start where all 96 are in the range and in one, else slot_intervals has that of
-- each, from the first (1) to the last (96), NULL for those outside. So a bucket's interval is computed once, not again
-- for each model.
CREATE OR REPLACE FUNCTION chat_stats_series_days(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (day date, interval_start timestamptz, slot_intervals timestamptz[])
LANGUAGE plpgsql
STABLE
ROWS 30
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT
        d.day,
        CASE WHEN d.whole THEN chat_stats_interval_start(p_interval, d.starts, p_timezone) END,
        CASE WHEN NOT d.whole THEN ARRAY(
            SELECT CASE WHEN s.bucket >= p_start AND s.bucket < p_end
                        THEN chat_stats_interval_start(p_interval, s.bucket, p_timezone) END
            FROM generate_series(d.starts, d.ends - interval '15 minutes', interval '15 minutes') AS s (bucket)
            ORDER BY s.bucket
        ) END
    FROM (
        SELECT
            b.day, b.starts, b.ends,
            p_interval IN ('1d', '1w', '1mo') AND b.starts >= p_start AND b.ends <= p_end
            AND chat_stats_interval_start(p_interval, b.starts, p_timezone)
                = chat_stats_interval_start(p_interval, b.ends - interval '15 minutes', p_timezone) AS whole
        FROM (
            SELECT
                n.day::date AS day, n.day AT TIME ZONE 'UTC' AS starts,
                (n.day + interval '1 day') AT TIME ZONE 'UTC' AS ends
            FROM generate_series(
                chat_stats_day(p_start)::timestamp, chat_stats_day(p_end - interval '15 minutes'), interval '1 day'
            ) AS n (day)
        ) AS b
    ) AS d;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_series_days');
