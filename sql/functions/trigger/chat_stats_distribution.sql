-- How Citus holds the requests, or a part of them, where the rollup cannot be kept so; NULL where it can: Citus does not
-- hold them, or has distributed them by model_id, and beside them what the triggers of the shards append.
SELECT chat_stats_install('chat_stats_distribution', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_distribution()
RETURNS text
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    -- Statements are planned when they are reached: without Citus there is no such table.
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN NULL;
    END IF;
    IF stats_schema.chat_stats_on_shards() THEN
        RETURN (  -- where they were distributed with the triggers of a plain table
            SELECT 'distributed by model_id, with triggers that write to the coordinator'
            FROM pg_trigger AS t
            WHERE t.tgrelid = 'gateway_schema.chat_completion_requests'::regclass
              AND t.tgfoid = to_regproc('stats_schema.chat_stats_record_changes')
            UNION ALL  -- whose own sessions cannot count (chat_stats_record_shard_changes())
            SELECT 'distributed by model_id, with shards on the coordinator'
            FROM pg_dist_shard AS s
            JOIN pg_dist_placement AS p ON p.shardid = s.shardid AND p.groupid = 0
            WHERE s.logicalrelid = 'gateway_schema.chat_completion_requests'::regclass
            LIMIT 1
        );
    ELSIF to_regclass('stats_schema.chat_stats_shard_deltas') IS NOT NULL THEN
        RETURN 'not distributed as chat_stats_shard_deltas is';
    END IF;
    RETURN (
        SELECT CASE
            WHEN p.partkey IS NOT NULL THEN 'distributed by ' || column_to_column_name(p.logicalrelid, p.partkey)
            WHEN p.repmodel = 't' THEN 'a reference table'
            WHEN p.colocationid <> 0 THEN 'a table of one shard'
            ELSE 'a local table that Citus manages'
        END
        FROM stats_schema.chat_stats_request_tables() AS t
        JOIN pg_dist_partition AS p ON p.logicalrelid = t.relation::regclass
        ORDER BY t.relation = 'gateway_schema.chat_completion_requests'::regclass::oid DESC
        LIMIT 1
    );
END
$function$;
$install$);
