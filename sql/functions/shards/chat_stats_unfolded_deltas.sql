-- How many deltas there are that no fold has seen; up to a million, which means that they do not get folded.
SELECT chat_stats_install('chat_stats_unfolded_deltas', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_unfolded_deltas()
RETURNS bigint
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    unfolded bigint;
BEGIN
    EXECUTE format(
        'SELECT count(*) FROM (SELECT 1 FROM stats_schema.%s LIMIT 1000000) AS d',
        CASE WHEN stats_schema.chat_stats_on_shards() THEN 'chat_stats_shard_deltas WHERE batch IS NULL' ELSE 'chat_stats_deltas' END
    ) INTO STRICT unfolded;
    RETURN unfolded;
END
$function$;
$install$);
