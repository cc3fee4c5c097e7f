{% import 'macros/rollups.sql.j2' as kept %}
-- The moment before which requests must lie for their statistics to be kept when others delete them (`chat-stats rollup
-- retain`); NULL where none are.
SELECT chat_stats_install('chat_stats_kept_before', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_kept_before()
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN {{ kept.kept_before() }};
END
$function$;
$install$);
