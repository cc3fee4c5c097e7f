{% import 'macros/reading.sql.j2' as reading %}
{% import 'macros/filters.sql.j2' as filters %}
-- The numbers of chat_stats_scan(), from the rollup by model: the pieces that chat_stats_cover() finds, with the deltas that
-- are not folded yet, and from the requests themselves only the ragged edges of the range.
SELECT chat_stats_claim_function('chat_stats_rolled_up');

SELECT chat_stats_install('chat_stats_rolled_up', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up(
    p_start timestamptz, p_end timestamptz, {{ filters.parameters() }}
)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    {{ filters.declared() }}
    {{ filters.declared_ids() }}
BEGIN
    IF stats_schema.chat_stats_on_shards() THEN
        {{ filters.ids() | indent(8) }}
        IF p_start IS NULL AND p_end IS NULL THEN
            RETURN QUERY
            {{ reading.of_all_time(rollup('model'), shards=true) | indent(12) }};
        ELSE
            RETURN QUERY
            {{ reading.of_range(rollup('model'), shards=true) | indent(12) }};
        END IF;
    ELSIF p_start IS NULL AND p_end IS NULL THEN
        RETURN QUERY
        {{ reading.of_all_time(rollup('model')) | indent(8) }};
    ELSE
        RETURN QUERY
        {{ reading.of_range(rollup('model')) | indent(8) }};
    END IF;
END
$function$;
$install$);

-- The planner does not know that ragged edges are short: it takes them for a ninth of the table, for which it would
-- compile code, and where rows are not in the order of their time even read all of it.
ALTER FUNCTION chat_stats_rolled_up(timestamptz, timestamptz, {{ filters.types() }}) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up(timestamptz, timestamptz, {{ filters.types() }}) SET enable_seqscan = off;
