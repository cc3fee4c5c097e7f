{% import 'macros/rollups.sql.j2' as kept %}
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
    IF NOT {{ kept.has_purged() | indent(4) }} OR row_security_active('gateway_schema.chat_completion_requests') THEN
        RETURN false;
    END IF;
    IF current_setting('row_security') = 'on' AND EXISTS (
        SELECT FROM unnest(ARRAY[{{ kept.purged_tables(built_in) }}]) AS t (name)
        WHERE row_security_active(to_regclass('stats_schema.' || t.name)::oid)
    ) THEN
        -- Where it is off, reading them is an error by itself.
        RAISE EXCEPTION 'row level security of what is kept of purged requests hides the sums of requests that were purged'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN true;
END
$function$;
$install$);
