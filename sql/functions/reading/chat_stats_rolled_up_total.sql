{% import 'macros/reading.sql.j2' as reading %}
-- The sums of all requests in [p_start, p_end), from the rollup of all; no row when there are none.
SELECT chat_stats_claim_function('chat_stats_rolled_up_total');

SELECT chat_stats_install('chat_stats_rolled_up_total', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rolled_up_total(
    p_start timestamptz, p_end timestamptz
)
RETURNS TABLE (
    {{ each('{total} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
ROWS 1
AS $function$
#variable_conflict use_column
BEGIN
    IF stats_schema.chat_stats_on_shards() THEN
        IF p_start IS NULL AND p_end IS NULL THEN
            RETURN QUERY
            {{ reading.of_all_time(rollup('total'), shards=true) | indent(12) }};
        ELSE
            RETURN QUERY
            {{ reading.of_range(rollup('total'), shards=true) | indent(12) }};
        END IF;
    ELSIF p_start IS NULL AND p_end IS NULL THEN
        RETURN QUERY
        {{ reading.of_all_time(rollup('total')) | indent(8) }};
    ELSE
        RETURN QUERY
        {{ reading.of_range(rollup('total')) | indent(8) }};
    END IF;
END
$function$;
$install$);

-- As chat_stats_rolled_up(), and for the same reasons.
ALTER FUNCTION chat_stats_rolled_up_total(timestamptz, timestamptz) SET jit = off;
ALTER FUNCTION chat_stats_rolled_up_total(timestamptz, timestamptz) SET enable_seqscan = off;
