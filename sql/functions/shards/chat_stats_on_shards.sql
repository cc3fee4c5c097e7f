-- Whether Citus has distributed the requests by model_id, and beside them what our triggers append.
SELECT chat_stats_install('chat_stats_on_shards', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_on_shards()
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    -- Statements are planned when they are reached: without Citus there is no such table.
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT
        FROM pg_dist_partition AS r
        JOIN pg_dist_partition AS d ON d.colocationid = r.colocationid AND d.partmethod = 'h'
        WHERE r.logicalrelid = 'gateway_schema.chat_completion_requests'::regclass AND r.partmethod = 'h'
          AND d.logicalrelid = to_regclass('stats_schema.chat_stats_shard_deltas')
          AND column_to_column_name(r.logicalrelid, r.partkey) = 'model_id'
    );
END
$function$;
$install$);
