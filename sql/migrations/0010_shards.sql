{% import 'macros/rollups.sql.j2' as kept %}
-- Where Citus has distributed the requests by model_id: what the triggers append is on the nodes, beside the requests of
-- the same shard, so that a writer's statement and its deltas commit on one node. The rollups stay on the coordinator.
--
-- What is appended goes through batches (chat_stats_fold_shards()), which chat_stats_batches lists: that is how numbers
-- of the coordinator and of the nodes are of one state, though no snapshot spans them.
SELECT chat_stats_run($run$
DO $migration$
DECLARE
    requests regclass := 'gateway_schema.chat_completion_requests'::regclass;
    shards text := 'stats_schema.chat_stats_shard_deltas';
    types text[] := ARRAY(
        SELECT {{ kept.type_of('d.name', 'a.atttypid') }}
        FROM unnest({{ kept.dimension_names() }}) WITH ORDINALITY AS d (name, place)
        JOIN pg_attribute AS a ON a.attname = d.name
        WHERE a.attrelid = 'stats_schema.chat_stats_deltas'::regclass
        ORDER BY d.place
    );
    is_distributed boolean := false;
    present text[];
    wanted text[] := ARRAY[{{ each("'{name}'") }}];
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN  -- (what follows is planned only where there is Citus)
        RETURN;
    END IF;
    is_distributed := EXISTS (
        SELECT FROM pg_dist_partition AS p
        WHERE p.logicalrelid = requests AND p.partmethod = 'h'
          AND column_to_column_name(p.logicalrelid, p.partkey) = 'model_id'
    );
    -- Where the requests are elsewhere now, or the measures others, the rollup is made again.
    IF to_regclass(shards) IS NOT NULL THEN
        present := ARRAY(
            SELECT a.attname::text FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass(shards) AND a.attname = ANY (wanted::name[]) AND NOT a.attisdropped
        );
        IF NOT is_distributed OR NOT present @> wanted OR NOT EXISTS (
            SELECT FROM pg_dist_partition AS p
            JOIN pg_dist_partition AS r ON r.colocationid = p.colocationid AND r.logicalrelid = requests
            WHERE p.logicalrelid = to_regclass(shards)
        ) THEN
            -- What is kept of purged requests may be there alone.
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s AS t WHERE t.kept AND (t.batch IS NULL OR t.batch > (
                SELECT COALESCE(max(b.batch), 0) FROM stats_schema.chat_stats_batches AS b WHERE b.folded)))', shards)
            INTO STRICT is_distributed;
            IF is_distributed THEN
                RAISE EXCEPTION 'chat_stats_shard_deltas keeps statistics of purged requests that are not folded yet'
                    USING HINT = 'Distribute the requests as they were; run SELECT chat_stats_fold() twice; then migrate.';
            END IF;
            DROP TABLE stats_schema.chat_stats_shard_deltas, stats_schema.chat_stats_batches;
            UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
            is_distributed := EXISTS (
                SELECT FROM pg_dist_partition AS p
                WHERE p.logicalrelid = requests AND p.partmethod = 'h'
                  AND column_to_column_name(p.logicalrelid, p.partkey) = 'model_id'
            );
        END IF;
    END IF;
    IF NOT is_distributed OR to_regclass(shards) IS NOT NULL THEN
        RETURN;
    END IF;

    -- A signed change of the requests of one value of each dimension, in one bucket and bin of the times; or with `kept`,
    -- sums of requests that were purged; or with `trouble`, that a write could not be counted, and why. `batch` is NULL
    -- until folds see it; a batch that is `summed` stands for all rows of its own that there were.
    EXECUTE format($table$
        CREATE TABLE stats_schema.chat_stats_shard_deltas (
{% for name in built_in_dimensions %}
            {{ name }} %{{ loop.index }}$s{{ ' NOT NULL' if name == 'model_id' }},
{% endfor %}
            bucket timestamptz,
            bin smallint,
            {{ each('{name} {type} NOT NULL DEFAULT 0', 12) }},
            n bigint NOT NULL DEFAULT 0,
            kept boolean NOT NULL DEFAULT false,
            trouble text,
            batch bigint,
            summed boolean NOT NULL DEFAULT false
        )
    $table$, VARIADIC types);
    CREATE INDEX chat_stats_shard_deltas_batch_idx ON stats_schema.chat_stats_shard_deltas (batch);
    -- Without a key, and so that Citus can move shards while folds update and delete.
    ALTER TABLE stats_schema.chat_stats_shard_deltas REPLICA IDENTITY FULL;
    PERFORM create_distributed_table(
        'stats_schema.chat_stats_shard_deltas', 'model_id', colocate_with => requests::text
    );
    -- The batches in order. `summed` is how many rows it has; `settled_at`: that it is folded was committed by then.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_batches (
        batch bigint PRIMARY KEY,
        summed bigint NOT NULL,
        folded boolean NOT NULL DEFAULT false,
        settled_at timestamptz
    );
    -- What was written since the requests were distributed was not counted. And the nodes do not know from which age on
    -- the statistics of requests that others delete are to be kept.
    IF EXISTS (SELECT FROM stats_schema.chat_stats_rollup_state AS s WHERE s.retain_older_than IS NOT NULL) THEN
        RAISE WARNING 'on Citus the statistics of requests that others delete are not kept: rollup retain is off now';
    END IF;
    UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL, retain_older_than = NULL;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
