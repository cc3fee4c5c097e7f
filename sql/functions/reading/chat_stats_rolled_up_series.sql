{% import 'macros/cut_days.sql.j2' as cut %}
{% import 'macros/reading.sql.j2' as reading %}
{% import 'macros/filters.sql.j2' as filters %}
-- The numbers of chat_stats_scan_series(), from the rollup by model: days, the slots of those that lie in several
-- intervals or at the edges, the deltas that are not folded yet, and from the requests themselves only the ragged edges.
SELECT chat_stats_claim_function('chat_stats_rolled_up_series');

SELECT chat_stats_install('chat_stats_rolled_up_series', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_series(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz,
    {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ cut.whole_buckets() | indent(4) }}
    {{ filters.declared() }}
    {{ filters.declared_ids() }}
BEGIN
    {{ cut.find_whole_buckets() | indent(4) }}
    IF stats_schema.chat_stats_on_shards() THEN
        {{ filters.ids() | indent(8) }}
        RETURN QUERY
        {{ reading.of_intervals(rollup('model'), shards=true) | indent(8) }};
        RETURN;
    END IF;
    RETURN QUERY
    {{ reading.of_intervals(rollup('model')) | indent(4) }};
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons.
ALTER FUNCTION chat_stats_rolled_up_series(text, text, timestamptz, timestamptz, {{ filters.types() }}) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_series(text, text, timestamptz, timestamptz, {{ filters.types() }}) SET enable_seqscan = off;
