{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/tiers.sql.j2' as made %}
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
    PERFORM pg_advisory_xact_lock(1668510835, 3);  -- that of chat_stats_fold()
    wrong := stats_schema.chat_stats_rollup_tier_drift();
    IF wrong = 0 THEN
        RETURN 0;
    END IF;
{% for rollup in rollups %}
{% for tier in tiers if tier.made_of %}
    DELETE FROM stats_schema.{{ rollup.tables[tier.name] }};
    INSERT INTO stats_schema.{{ rollup.tables[tier.name] }} (
        {{ kept.key(rollup, tier) }}, {{ kept.columns(rollup, tier) }}
    )
    {{ made.expected(rollup, tier) | indent(4) }};
{% endfor %}
{% endfor %}
    RETURN wrong;
END
$function$;
$install$);
