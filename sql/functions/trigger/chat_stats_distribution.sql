-- How Citus holds the requests, or a part of them; NULL where it does not. Then a statement of a writer fires the triggers
-- of the shards, and what they append would not be in the rollup's tables: these are on the coordinator.
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
