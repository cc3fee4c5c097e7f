{% import 'macros/histograms.sql.j2' as histograms %}
{% import 'macros/filters.sql.j2' as filters %}
-- The histograms of chat_stats_scan_histograms() without intervals, from the rollup: the pieces that chat_stats_cover()
-- finds, with the deltas that are not folded yet, and from the requests themselves only the ragged edges of the range.
-- Those of all requests are read from the rollup of all.
SELECT chat_stats_claim_function('chat_stats_rolled_up_histograms');

SELECT chat_stats_install('chat_stats_rolled_up_histograms', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_histograms(
    p_group_by text, p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (member gateway_schema.models.id%TYPE, bins smallint[], counts bigint[], total bigint)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ filters.declared() }}
    -- Nearly all of the histograms of models over all time are there already as they are wanted.
    found_whole boolean := p_group_by = 'model';
    {{ filters.declared_ids() }}
BEGIN
    IF stats_schema.chat_stats_on_shards() THEN
        {{ filters.ids() | indent(8) }}
        IF p_group_by = 'none' AND all_models AND NOT only_unresolved THEN
            IF p_start IS NULL AND p_end IS NULL THEN
                RETURN QUERY
                {{ histograms.of_all_time(rollup('total'), shards=true) | indent(16) }};
            ELSE
                RETURN QUERY
                {{ histograms.of_range(rollup('total'), shards=true) | indent(16) }};
            END IF;
        ELSIF p_start IS NULL AND p_end IS NULL THEN
            RETURN QUERY
            {{ histograms.of_all_time(rollup('model'), shards=true) | indent(12) }};
        ELSE
            RETURN QUERY
            {{ histograms.of_range(rollup('model'), shards=true) | indent(12) }};
        END IF;
    ELSIF p_group_by = 'none' AND all_models AND NOT only_unresolved THEN
        IF p_start IS NULL AND p_end IS NULL THEN
            RETURN QUERY
            {{ histograms.of_all_time(rollup('total')) | indent(12) }};
        ELSE
            RETURN QUERY
            {{ histograms.of_range(rollup('total')) | indent(12) }};
        END IF;
    ELSIF p_start IS NULL AND p_end IS NULL THEN
        IF found_whole AND NOT only_unresolved THEN
            RETURN QUERY
            SELECT g.member, t.bins, t.counts, t.timed
            FROM stats_schema.chat_stats_groups(p_group_by, {{ filters.arguments() }}) AS g
            JOIN stats_schema.{{ rollup('model').tables.lifetime }} AS t ON t.model_id = g.id
            WHERE t.timed > 0 AND NOT EXISTS (
                SELECT FROM stats_schema.chat_stats_deltas AS d WHERE d.timed <> 0 AND d.model_id = t.model_id
            );
        END IF;
        RETURN QUERY
        {{ histograms.of_all_time(rollup('model')) | indent(8) }};
    ELSE
        RETURN QUERY
        {{ histograms.of_range(rollup('model')) | indent(8) }};
    END IF;
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons; and the histograms of all models and bins need memory.
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, {{ filters.types() }})
    SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, {{ filters.types() }})
    SET enable_seqscan = off;
ALTER FUNCTION chat_stats_rolled_up_histograms(text, timestamptz, timestamptz, {{ filters.types() }})
    SET work_mem = '32MB';
