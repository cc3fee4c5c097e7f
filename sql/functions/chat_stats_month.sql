-- The first day of the month of a UTC day; a day that no timestamp reaches is a month of its own.
CREATE OR REPLACE FUNCTION chat_stats_month(p_day date)
RETURNS date
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT CASE WHEN isfinite(p_day) AND p_day < '294277-01-01'::date
                THEN date_trunc('month', p_day::timestamp)::date
                ELSE p_day END
$function$;
