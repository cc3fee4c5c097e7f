-- Whether a status means that the request succeeded.
CREATE OR REPLACE FUNCTION chat_stats_is_success(p_status text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT COALESCE(
        lower(p_status) IN ('completed', 'complete', 'success', 'successful', 'succeeded', 'ok', '200'), false
    )
$function$;

SELECT chat_stats_register_function('chat_stats_is_success(text)');
