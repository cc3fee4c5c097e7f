-- Whether the requests have the optional column cost_usd.
CREATE OR REPLACE FUNCTION chat_stats_has_cost()
RETURNS boolean
LANGUAGE sql
STABLE
PARALLEL SAFE  -- or the statement that calls it could not run in parallel
AS $function$
    SELECT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass('chat_completion_requests') AND a.attname = 'cost_usd' AND NOT a.attisdropped
    )
$function$;

SELECT chat_stats_register_function('chat_stats_has_cost()');
