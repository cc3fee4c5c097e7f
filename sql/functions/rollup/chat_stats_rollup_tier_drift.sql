{% import 'macros/rollups.sql.j2' as kept %}
-- In how many places the totals of days, months and lifetime differ from the slots, days and months that they
-- are made of. Bins must ascend: percentiles are read off them as they are.
SELECT chat_stats_install('chat_stats_rollup_tier_drift', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_tier_drift()
RETURNS bigint
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN {% for tier in rollups if tier.made_of %}(
        SELECT count(*)
        FROM (
            SELECT {{ kept.key(tier, 't.') }}, {{ each('t.{name}') }}{{ ', t.bins, t.counts' if tier.histogram }}
            FROM stats_schema.{{ tier.table }} AS t
        ) AS kept
        FULL JOIN stats_schema.chat_stats_{{ tier.name }}_of_{{ tier.made_of }}() AS expected
            ON {% for column in tier.key %}expected.{{ column }} = kept.{{ column }}{{ ' AND ' if not loop.last }}{% endfor %}

        WHERE kept IS DISTINCT FROM expected
    ){{ ' + ' if not loop.last }}{% endfor %};
END
$function$;
$install$);
