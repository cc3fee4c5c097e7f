{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/tiers.sql.j2' as made %}
-- In how many places the totals of days, months and lifetime of each rollup differ from the slots, days and months that
-- they are made of. Bins must ascend: percentiles are read off them as they are.
SELECT chat_stats_install('chat_stats_rollup_tier_drifts', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_tier_drifts()
RETURNS TABLE (rollup text, places bigint)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
{% for rollup in rollups %}
    rollup := '{{ rollup.name }}';
    places := 0;
{% if not rollup.built_in %}
    places := (SELECT count(*) {{ made.of_own_days(rollup) | indent(4) }});
{% endif %}
{% for tier in rollup.tiers if tier.made_of %}
    places := places + (
        SELECT count(*)
        FROM (
            SELECT
            FROM (
{% if rollup.built_in %}
                SELECT {{ kept.key(rollup, tier) }}, {{ kept.columns(rollup, tier) }}
                FROM stats_schema.{{ rollup.tables[tier.name] }}
{% else %}
                {{ made.of_own(rollup, tier) | indent(16) }}
{% endif %}
                UNION ALL
                SELECT * FROM (
                    {{ (made.expected(rollup, tier) if rollup.built_in else made.expected_of_own(rollup, tier)) | indent(20) }}
                ) AS expected
            ) AS both_ways
            GROUP BY {{ kept.key(rollup, tier) }}
            HAVING count(*) <> 2
                OR ({{ each('min({name})') }}) <> ({{ each('max({name})') }})
{% if tier.name in rollup.binned %}
                OR (min(bins), min(counts)) <> (max(bins), max(counts))
{% endif %}
        ) AS differing
    );
{% endfor %}
    RETURN NEXT;
{% endfor %}
END
$function$;
$install$);
