{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/tiers.sql.j2' as made %}
{% import 'macros/compact.sql.j2' as compact %}
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
{% for rollup in rollups %}
{% if not rollup.built_in %}
    {{ made.totals_of_days(rollup) | indent(4) }};
{% endif %}
{% for tier in rollup.tiers if tier.made_of %}
    DELETE FROM stats_schema.{{ rollup.tables[tier.name] }};
    INSERT INTO stats_schema.{{ rollup.tables[tier.name] }} (
        {{ kept.key(rollup, tier) }}, {{ kept.columns(rollup, tier) }}
    )
{% if rollup.built_in %}
    {{ made.expected(rollup, tier) | indent(4) }};
{% else %}
    SELECT {{ kept.key(rollup, tier) }}, {{ compact.packed_tier(rollup, tier, 'a') | indent(4) }}
    FROM (
        {{ made.expected_of_own(rollup, tier) | indent(8) }}
    ) AS a;
{% endif %}
{% endfor %}
{% endfor %}
    RETURN wrong;
END
$function$;
$install$);
