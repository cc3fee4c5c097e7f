{% import 'macros/cut_days.sql.j2' as cut %}
{% import 'macros/histograms.sql.j2' as histograms %}
{% import 'macros/filters.sql.j2' as filters %}
-- The histograms of chat_stats_scan_histograms() for each interval of a time series, from the rollup: months, the
-- slots of days, the deltas that are not folded yet, and from the requests themselves only the ragged edges. Those of
-- all requests are read from the rollup of all.
SELECT chat_stats_claim_function('chat_stats_rolled_up_series_histograms');

SELECT chat_stats_install('chat_stats_rolled_up_series_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_series_histograms(
    p_interval text, p_timezone text, p_group_by text, p_start timestamptz, p_end timestamptz,
    {{ filters.parameters() }}
)
RETURNS TABLE (
    interval_start timestamptz, member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint
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
    IF p_group_by = 'none' AND all_models AND NOT only_unresolved THEN
        RETURN QUERY
        SELECT * FROM stats_schema.chat_stats_rolled_up_total_series_histograms(p_interval, p_timezone, p_start, p_end);
        RETURN;
    END IF;
    {{ cut.find_whole_buckets() | indent(4) }}
    IF stats_schema.chat_stats_on_shards() THEN
        {{ filters.ids() | indent(8) }}
        RETURN QUERY
        {{ histograms.of_intervals(rollup('model'), shards=true) | indent(8) }};
    ELSE
        RETURN QUERY
        {{ histograms.of_intervals(rollup('model')) | indent(8) }};
    END IF;
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons; and the histograms of all models and bins need memory.
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, {{ filters.types() }})
    SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, {{ filters.types() }})
    SET enable_seqscan = off;
ALTER FUNCTION chat_stats_rolled_up_series_histograms(text, text, text, timestamptz, timestamptz, {{ filters.types() }})
    SET work_mem = '32MB';
