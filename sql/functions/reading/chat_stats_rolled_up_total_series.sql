{% import 'macros/cut_days.sql.j2' as cut %}
{% import 'macros/reading.sql.j2' as reading %}
-- The sums of all requests by interval, from the rollup of all.
SELECT chat_stats_claim_function('chat_stats_rolled_up_total_series');

SELECT chat_stats_install('chat_stats_rolled_up_total_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_total_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (
    interval_start timestamptz,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ cut.whole_buckets() | indent(4) }}
BEGIN
    {{ cut.find_whole_buckets() | indent(4) }}
    IF stats_schema.chat_stats_on_shards() THEN
        RETURN QUERY
        {{ reading.of_intervals(rollup('total'), shards=true) | indent(8) }};
        RETURN;
    END IF;
    RETURN QUERY
    {{ reading.of_intervals(rollup('total')) | indent(4) }};
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons.
ALTER FUNCTION chat_stats_rolled_up_total_series(text, text, timestamptz, timestamptz) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_total_series(text, text, timestamptz, timestamptz) SET enable_seqscan = off;
-- Planning takes longer than the statement, whose plan does not depend on the range: days are found by index.
ALTER FUNCTION chat_stats_rolled_up_total_series(text, text, timestamptz, timestamptz) SET plan_cache_mode = force_generic_plan;
