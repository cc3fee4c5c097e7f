-- A mean with two places; 0 when there is nothing to take it from.
CREATE OR REPLACE FUNCTION chat_stats_mean(p_sum numeric, p_count bigint)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT CASE WHEN p_count > 0 THEN round(p_sum / p_count, 2) ELSE 0 END
$function$;

SELECT chat_stats_register_function('chat_stats_mean(numeric, bigint)');
