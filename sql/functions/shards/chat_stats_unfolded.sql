-- What chat_stats_shard_statement() finds of the measures.
--
-- Batches stay on the nodes for 15 minutes after they are folded: for a transaction that is older, they may be gone.
SELECT chat_stats_claim_function('chat_stats_unfolded');

SELECT chat_stats_install('chat_stats_unfolded', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_unfolded(
    p_part text, p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz,
    p_models text[]
)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    moment timestamptz,
    {{ each('{name} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
ROWS 100
AS $function$
#variable_conflict use_column
DECLARE
    found record;
BEGIN
    FOR found IN EXECUTE stats_schema.chat_stats_shard_statement(
        p_part, false, p_interval, p_timezone, p_start, p_end, p_models
    ) LOOP
        IF found.trouble IS NOT NULL THEN
            RAISE EXCEPTION 'a write could not be counted: %', found.trouble USING ERRCODE = 'data_exception';
        END IF;
        model_id := found.model_id;
        moment := found.moment;
{% for m in measures %}
        {{ m.name }} := found.{{ m.name }};
{% endfor %}
        RETURN NEXT;
    END LOOP;
    IF (p_part = 'rollup' OR stats_schema.chat_stats_has_purged())
       AND stats_schema.chat_stats_snapshot_age() > interval '10 minutes' THEN
        RAISE EXCEPTION 'the snapshot is too old for the nodes of Citus: statistics need a transaction that is younger'
            USING ERRCODE = 'snapshot_too_old';
    END IF;
END
$function$;
$install$);
