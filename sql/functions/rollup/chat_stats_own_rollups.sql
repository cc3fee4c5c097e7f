-- The rollups of the operator's own that these functions keep up.
SELECT chat_stats_install('chat_stats_own_rollups', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_own_rollups()
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
AS $function$
BEGIN
    RETURN ARRAY[{% for rollup in own_rollups %}'{{ rollup.name }}'{{ ', ' if not loop.last }}{% endfor %}]::text[];
END
$function$;
$install$);
