-- Whether there may be numbers of requests that were purged, and whoever asks counts all requests. Needs no rights:
-- who may not read these numbers shall get an error, not an answer without them.
CREATE OR REPLACE FUNCTION chat_stats_has_purged()
RETURNS boolean
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN COALESCE(pg_relation_size(to_regclass('chat_stats_purged')), 0) > 0
        AND NOT row_security_active('chat_completion_requests');
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_has_purged');
