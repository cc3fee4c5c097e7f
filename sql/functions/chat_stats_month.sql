-- The first day of the month of a UTC day; a day of a month that timestamps do not reach both ends of is a
-- month of its own.
CREATE OR REPLACE FUNCTION chat_stats_month(p_day date)
RETURNS date
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT CASE WHEN p_day >= '4714-12-01 BC'::date AND p_day < '294276-12-01'::date
                THEN date_trunc('month', p_day::timestamp)::date
                ELSE p_day END
$function$;

SELECT chat_stats_register_function('chat_stats_month(date)');
