{% import 'macros/cut_days.sql.j2' as cut %}
{% import 'macros/histograms.sql.j2' as histograms %}
-- The histograms of all requests by interval, from the rollup of all.
SELECT chat_stats_claim_function('chat_stats_rolled_up_total_series_histograms');

SELECT chat_stats_install('chat_stats_rolled_up_total_series_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_total_series_histograms(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz
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
    -- Days of the time zone whose histograms need no sorting of bins begin after found_from and end by found_to.
    found_from timestamptz := 'infinity';
    found_to timestamptz := '-infinity';
BEGIN
    {{ cut.find_whole_buckets() | indent(4) }}
    IF stats_schema.chat_stats_on_shards() THEN
        RETURN QUERY
        {{ histograms.of_intervals(rollup('total'), shards=true) | indent(8) }};
        RETURN;
    END IF;
    IF p_interval = '1d' THEN  -- up to the first delta, and without the ragged edges
        found_from := stats_schema.chat_stats_bucket(p_start);
        found_to := LEAST(stats_schema.chat_stats_bucket(p_end), (
            SELECT min(d.bucket) FROM stats_schema.chat_stats_deltas AS d
            WHERE d.timed <> 0 AND d.bucket >= first_bucket
        ));
    END IF;
    RETURN QUERY
    {{ histograms.of_intervals(rollup('total')) | indent(4) }};
END
$function$;
$install$);

-- As chat_stats_rolled_up_series_histograms(), and for the same reasons; the plan does not depend on the range, and planning
-- takes as long as the statement.
ALTER FUNCTION chat_stats_rolled_up_total_series_histograms(text, text, timestamptz, timestamptz) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_total_series_histograms(text, text, timestamptz, timestamptz) SET enable_seqscan = off;
ALTER FUNCTION chat_stats_rolled_up_total_series_histograms(text, text, timestamptz, timestamptz) SET work_mem = '32MB';
ALTER FUNCTION chat_stats_rolled_up_total_series_histograms(text, text, timestamptz, timestamptz)
    SET plan_cache_mode = force_generic_plan;
