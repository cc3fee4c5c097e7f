-- What version 0.1.0 had and nothing reads any more, now that all functions are in place.
SELECT chat_stats_run($run$
DO $clean_up$
DECLARE
    former text;
BEGIN
    FOREACH former IN ARRAY ARRAY[
        'chat_stats_days_of_slots()', 'chat_stats_months_of_days()', 'chat_stats_lifetime_of_months()'
    ] LOOP
        IF obj_description(to_regprocedure('stats_schema.' || former)::oid, 'pg_proc'::name) LIKE 'chat-stats;%' THEN
            EXECUTE 'DROP FUNCTION stats_schema.' || former;
        END IF;
    END LOOP;
    DROP TABLE IF EXISTS stats_schema.chat_stats_purged;
END
$clean_up$;
$run$);
