-- Whether there may be numbers of requests that were purged, and the caller counts all requests. Needs no rights:
-- who may not read these numbers shall get an error, not an answer without them.
SELECT chat_stats_install('chat_stats_has_purged', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_has_purged()
RETURNS boolean
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $function$
BEGIN
    IF COALESCE(pg_relation_size(to_regclass('stats_schema.chat_stats_purged')), 0) = 0
       OR row_security_active('gateway_schema.chat_completion_requests') THEN
        RETURN false;
    END IF;
    IF row_security_active('stats_schema.chat_stats_purged') AND current_setting('row_security') = 'on' THEN
        -- Where it is off, reading them is an error by itself.
        RAISE EXCEPTION 'row level security of chat_stats_purged hides the sums of requests that were purged'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN true;
END
$function$;
$install$);
