-- The comment by which we know our own functions: it names the id types that they were created for.
CREATE OR REPLACE FUNCTION chat_stats_function_note()
RETURNS text
LANGUAGE sql
STABLE
AS $function$
    SELECT 'chat-stats; ' || string_agg(
        format('%s.id %s', a.attrelid::regclass, format_type(a.atttypid, a.atttypmod)), ', '
        ORDER BY a.attrelid = to_regclass('models')
    )
    FROM pg_attribute AS a
    WHERE a.attname = 'id' AND a.attrelid IN (to_regclass('providers'), to_regclass('models'))
$function$;
