-- The UTC days of the buckets in [p_start, p_end), which must be edges of buckets, and to which interval of a time
-- series their slots belong: interval_start where all 96 are in the range and in one, else slot_intervals has that of
-- each, from the first (1) to the last (96), NULL for those outside. So a bucket's interval is computed once, not again
-- for each model; and of a day in which the clock does not change, it follows from the first and the last one.
--
-- Of intervals of months, one row stands for a whole month of UTC that lies in one of them: is_month, and day is its
-- first.
SELECT chat_stats_install('chat_stats_series_days', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_series_days(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (day date, is_month boolean, interval_start timestamptz, slot_intervals timestamptz[])
LANGUAGE plpgsql
STABLE
ROWS 30
AS $function$
#variable_conflict use_column
DECLARE
    first_day timestamp := stats_schema.chat_stats_day(p_start);
    last_day timestamp := stats_schema.chat_stats_day(p_end - interval '15 minutes');
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH units AS (
        SELECT n.day, false AS is_month, n.day + interval '1 day' AS next
        FROM generate_series(first_day, last_day, interval '1 day') AS n (day)
        UNION ALL
        SELECT n.day, true, n.day + interval '1 month'
        FROM generate_series(stats_schema.chat_stats_month(
            first_day::date)::timestamp, last_day, interval '1 month') AS n (day
        )
        WHERE p_interval = '1mo'
    ), bounded AS (
        SELECT
            u.day::date AS day, u.is_month, u.day AT TIME ZONE 'UTC' AS starts, u.next AT TIME ZONE 'UTC' AS ends,
            p_interval IN ('1d', '1w', '1mo')
            AND u.day AT TIME ZONE 'UTC' >= p_start AND u.next AT TIME ZONE 'UTC' <= p_end AS inside
        FROM units AS u
    ), ended AS (
        SELECT
            b.*,
            CASE WHEN b.inside THEN stats_schema.chat_stats_interval_start(p_interval, b.starts, p_timezone) END AS first,
            CASE WHEN b.inside THEN stats_schema.chat_stats_interval_start(
                p_interval, b.ends - interval '15 minutes', p_timezone
            ) END AS last
        FROM bounded AS b
        OFFSET 0  -- so that each is computed once
    ), judged AS (
        SELECT
            e.*,
            e.inside AND e.first = e.last AS whole,
            -- The slots before the border, where there is only one.
            CASE WHEN e.inside AND e.first <> e.last AND NOT e.is_month
                      AND (e.ends AT TIME ZONE p_timezone) - (e.starts AT TIME ZONE p_timezone) = e.ends - e.starts
                 THEN ceil(date_part('epoch', e.last - e.starts) / 900)::integer END AS before
        FROM ended AS e
    )
    SELECT
        j.day,
        j.is_month,
        CASE WHEN j.whole THEN j.first END,
        CASE
            WHEN j.whole THEN NULL
            WHEN j.before IS NOT NULL
            THEN array_fill(j.first, ARRAY[j.before]) || array_fill(j.last, ARRAY[96 - j.before])
            ELSE ARRAY(
                SELECT CASE WHEN s.bucket >= p_start AND s.bucket < p_end
                            THEN stats_schema.chat_stats_interval_start(p_interval, s.bucket, p_timezone) END
                FROM generate_series(j.starts, j.ends - interval '15 minutes', interval '15 minutes') AS s (bucket)
                ORDER BY s.bucket
            )
        END
    FROM judged AS j
    WHERE CASE WHEN j.is_month THEN j.whole ELSE NOT EXISTS (
        SELECT FROM judged AS m WHERE m.is_month AND m.whole AND m.day = stats_schema.chat_stats_month(j.day)
    ) END;
END
$function$;
$install$);

-- Planning takes longer than the statement, whose plan does not depend on the range.
ALTER FUNCTION chat_stats_series_days(text, text, timestamptz, timestamptz) SET plan_cache_mode = force_generic_plan;
