-- What is kept of purged requests on the nodes of Citus and not folded yet, by model and bucket; no row elsewhere.
SELECT chat_stats_claim_function('chat_stats_kept_on_shards');

SELECT chat_stats_install('chat_stats_kept_on_shards', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_kept_on_shards()
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
    {{ each('{name} {type}', 4) }}
)
LANGUAGE plpgsql
STABLE
ROWS 10
AS $function$
#variable_conflict use_column
BEGIN
    IF stats_schema.chat_stats_on_shards() AND stats_schema.chat_stats_has_purged() THEN
        RETURN QUERY EXECUTE format(
            'SELECT model_id, bucket, {{ each('sum({name}){cast}') }} FROM stats_schema.chat_stats_shard_deltas '
            'WHERE kept AND (batch IS NULL OR batch > %s) GROUP BY model_id, bucket',
            stats_schema.chat_stats_folded_batch()
        );
    END IF;
END
$function$;
$install$);
