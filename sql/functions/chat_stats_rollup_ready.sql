-- Whether the rollup may be read: its backfill is done, and its triggers are there and fire.
CREATE OR REPLACE FUNCTION chat_stats_rollup_ready()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN EXISTS (SELECT FROM chat_stats_rollup_state WHERE ready) AND 4 = (
        SELECT count(*) FROM pg_trigger AS t
        WHERE t.tgrelid = 'chat_completion_requests'::regclass
          AND t.tgname LIKE 'chat\_stats\_%'
          AND t.tgenabled IN ('O', 'A')
    );
EXCEPTION WHEN undefined_table THEN
    RETURN false;  -- the tables of the rollup were never made, or were dropped
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_ready');
