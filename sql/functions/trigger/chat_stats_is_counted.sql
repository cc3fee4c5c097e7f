-- Whether a table is that of the requests or a part of it.
SELECT chat_stats_install('chat_stats_is_counted', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_is_counted(p_relation oid)
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    root oid := 'gateway_schema.chat_completion_requests'::regclass::oid;
BEGIN
    RETURN EXISTS (
        WITH RECURSIVE ancestors AS (
            SELECT p_relation AS relation
            UNION
            SELECT i.inhparent FROM ancestors AS a JOIN pg_inherits AS i ON i.inhrelid = a.relation
        )
        SELECT FROM ancestors WHERE relation = root
    );
END
$function$;
$install$);
