-- The first day of the month of a UTC day; a day of a month that timestamps do not reach both ends of is a
-- month of its own.
SELECT chat_stats_install('chat_stats_month', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_month(p_day date)
RETURNS date
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE WHEN p_day >= '4714-12-01 BC'::date AND p_day < '294276-12-01'::date
            THEN date_trunc('month', p_day::timestamp)::date
            ELSE p_day END;
$install$);
