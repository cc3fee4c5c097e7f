{% import 'macros/rollups.sql.j2' as kept %}
-- Folds what the triggers appended on the nodes of Citus, in two steps. This call adds the batch that the call before
-- closed to the rollups, and closes a new one. The caller holds the lock of chat_stats_fold().
--
-- No snapshot spans the nodes. So a batch is closed first: summed up on the nodes, with a number. Only once all nodes have
-- committed that, which the number of its rows tells, the coordinator adds it, and says in the same commit that it is
-- folded. A reader takes from the nodes what is in no batch that is folded in its own snapshot, and so has each change
-- once, whenever each node commits. Batches are deleted when no reader can need them: chat_stats_unfolded().
--
-- Returns how many rows of the triggers went into the new batch.
SELECT chat_stats_install('chat_stats_fold_shards', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_fold_shards()
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    closed record;
    present bigint;
    kept_until timestamptz;
    unneeded bigint;
    next bigint := (SELECT COALESCE(max(b.batch), 0) + 1 FROM stats_schema.chat_stats_batches AS b);
    appended bigint;
BEGIN
    UPDATE stats_schema.chat_stats_batches SET settled_at = clock_timestamp() WHERE folded AND settled_at IS NULL;
    FOR closed IN
        SELECT b.batch, b.summed FROM stats_schema.chat_stats_batches AS b WHERE NOT b.folded ORDER BY b.batch
    LOOP
        EXECUTE format('SELECT count(*) FROM stats_schema.chat_stats_shard_deltas WHERE batch = %s', closed.batch)
        INTO STRICT present;
        IF present <> closed.summed THEN
            RAISE EXCEPTION 'a node of Citus has not committed batch % yet', closed.batch
                USING ERRCODE = 'lock_not_available', HINT = 'Citus does so by itself: SELECT recover_prepared_transactions().';
        END IF;
        PERFORM stats_schema.chat_stats_rollup_add(
            format(
                $changes$
                    moved AS MATERIALIZED (
                        SELECT * FROM stats_schema.chat_stats_batch(%s::bigint) AS b
                        WHERE NOT b.kept AND b.trouble IS NULL
{% for rollup in rollups %}
{% set from = finer(rollup) %}
                    ), {{ rollup.name }}_slot_sums AS MATERIALIZED (
                        SELECT
                            {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d', of_bucket=not from) }},
                            {{ each('sum(d.{name}){cast} AS {name}', 28) }}
                        FROM {{ from.name ~ '_slot_sums' if from else 'moved' }} AS d
                        GROUP BY {{ kept.dims(rollup, 'd.') }}{{ 'd.day, d.slot' if from else 'd.bucket' }}
                        HAVING {{ kept.changed('d') }}
                    ), {{ rollup.name }}_cells AS MATERIALIZED (
                        SELECT
                            {{ kept.dims(rollup, 'b.') }}{{ kept.day_and_slot('b', of_bucket=not from) }}, b.bin, sum(b.n)::bigint AS n
                        FROM {{ from.name ~ '_cells' if from else 'moved' }} AS b
                        WHERE b.bin IS NOT NULL{{ ' AND false' if not rollup.histograms }}
                        GROUP BY {{ kept.dims(rollup, 'b.') }}{{ 'b.day, b.slot' if from else 'b.bucket' }}, b.bin
                        HAVING sum(b.n) <> 0
{% endfor %}
                    )
                $changes$,
                closed.batch
            ),
            'moved', NULL::text
        );
        kept_until := (
            SELECT max(b.bucket) + interval '15 minutes' FROM stats_schema.chat_stats_batch(closed.batch) AS b WHERE b.kept
        );
        IF kept_until IS NOT NULL THEN
            PERFORM stats_schema.chat_stats_purged_add(
                format(
                    $changes$
                        moved AS MATERIALIZED (
                            SELECT * FROM stats_schema.chat_stats_batch(%s::bigint) AS b WHERE b.kept
{% for rollup in rollups if not finer(rollup) %}
                        ), {{ rollup.name }}_changes AS (
                            SELECT {{ kept.dims(rollup, 'k.') }}k.bucket, k.bin, {{ each('k.{name}') }}, k.n FROM moved AS k
{% endfor %}
                        )
                    $changes$,
                    closed.batch
                ),
                'moved'
            );
        END IF;
        INSERT INTO stats_schema.chat_stats_uncounted (relation, reason)
        SELECT 'gateway_schema.chat_completion_requests'::regclass::oid, b.trouble
        FROM stats_schema.chat_stats_batch(closed.batch) AS b
        WHERE b.trouble IS NOT NULL;
        UPDATE stats_schema.chat_stats_batches SET folded = true WHERE batch = closed.batch;
        UPDATE stats_schema.chat_stats_rollup_state
        SET folded_at = clock_timestamp(), purged_before = GREATEST(purged_before, kept_until);
    END LOOP;

    -- Each reader has those that were folded 15 minutes ago in its rollups, or is too old to read.
    unneeded := (
        SELECT max(b.batch) FROM stats_schema.chat_stats_batches AS b
        WHERE b.settled_at < clock_timestamp() - interval '15 minutes'
    );
    IF unneeded IS NOT NULL THEN
        EXECUTE format('DELETE FROM stats_schema.chat_stats_shard_deltas WHERE batch <= %s', unneeded);
        DELETE FROM stats_schema.chat_stats_batches WHERE batch <= unneeded AND batch < next - 1;
        UPDATE stats_schema.chat_stats_batches SET settled_at = 'infinity' WHERE batch = unneeded;  -- done, but the last
    END IF;

    EXECUTE format('UPDATE stats_schema.chat_stats_shard_deltas SET batch = %s WHERE batch IS NULL', next);
    GET DIAGNOSTICS appended = ROW_COUNT;
    IF appended = 0 THEN
        UPDATE stats_schema.chat_stats_rollup_state SET folded_at = clock_timestamp();
        RETURN 0;
    END IF;
    EXECUTE format(
        $sum$
            INSERT INTO stats_schema.chat_stats_shard_deltas (
                {{ kept.all_dims(further=false) }}bucket, bin, {{ each('{name}') }}, n, kept, trouble, batch, summed
            )
            SELECT
                {{ kept.all_dims(further=false) }}bucket, bin, {{ each('sum({name}){cast}') }}, sum(n)::bigint, kept, trouble,
                %1$s::bigint, true
            FROM stats_schema.chat_stats_shard_deltas
            WHERE batch = %1$s
            GROUP BY {{ kept.all_dims(further=false) }}bucket, bin, kept, trouble
        $sum$,
        next
    );
    GET DIAGNOSTICS present = ROW_COUNT;
    EXECUTE format('DELETE FROM stats_schema.chat_stats_shard_deltas WHERE batch = %s AND NOT summed', next);
    INSERT INTO stats_schema.chat_stats_batches (batch, summed) VALUES (next, present);
    RETURN appended;
END
$function$;
$install$);

-- As chat_stats_fold(), and for the same reasons.
ALTER FUNCTION chat_stats_fold_shards() SET work_mem = '64MB';
ALTER FUNCTION chat_stats_fold_shards() SET jit = off;
