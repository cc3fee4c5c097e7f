-- In how many places the coarser tiers of any rollup differ from the finer ones: chat_stats_rollup_tier_drifts().
SELECT chat_stats_install('chat_stats_rollup_tier_drift', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_tier_drift()
RETURNS bigint
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN (SELECT sum(d.places)::bigint FROM stats_schema.chat_stats_rollup_tier_drifts() AS d);
END
$function$;
$install$);
