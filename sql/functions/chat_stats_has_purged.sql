-- Whether there may be numbers of requests that were purged, and whoever asks counts all requests. Needs no rights:
-- who may not read these numbers shall get an error, not an answer without them.
SELECT chat_stats_install('chat_stats_has_purged', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_has_purged()
RETURNS boolean
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $function$
BEGIN
    RETURN COALESCE(pg_relation_size(to_regclass('stats_schema.chat_stats_purged')), 0) > 0
        AND NOT row_security_active('gateway_schema.chat_completion_requests');
END
$function$;
$install$);
