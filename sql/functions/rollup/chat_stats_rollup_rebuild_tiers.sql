{% import 'macros/rollups.sql.j2' as kept %}
-- Makes the totals of days, months and lifetime again, if they differ from the slots, days and months that they are
-- made of; returns in how many places they did.
SELECT chat_stats_install('chat_stats_rollup_rebuild_tiers', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_rebuild_tiers()
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    wrong bigint;
BEGIN
    PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE;  -- the lock of chat_stats_fold()
    wrong := stats_schema.chat_stats_rollup_tier_drift();
    IF wrong = 0 THEN
        RETURN 0;
    END IF;
{% for tier in rollups if tier.made_of %}
    DELETE FROM stats_schema.{{ tier.table }};
    INSERT INTO stats_schema.{{ tier.table }} (
        {{ kept.key(tier) }}, {{ kept.columns(tier) }}
    )
    SELECT * FROM stats_schema.chat_stats_{{ tier.name }}_of_{{ tier.made_of }}();
{% endfor %}
    RETURN wrong;
END
$function$;
$install$);
