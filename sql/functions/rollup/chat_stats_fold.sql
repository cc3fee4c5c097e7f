{% import 'macros/rollups.sql.j2' as kept %}
-- Moves the deltas into the tiers of all rollups, and what is kept of requests that others deleted to that of purged
-- ones. Returns how many deltas there were; 0 also when another session is folding or repairing, or where the state has
-- lost its row.
SELECT chat_stats_install('chat_stats_fold', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_fold()
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    folded bigint;
    kept_until timestamptz;
    retained bigint := 0;
BEGIN
    -- The lock of all that changes the rollup is this row: only roles that may write it can hold it.
    PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    ELSIF stats_schema.chat_stats_on_shards() THEN
        RETURN stats_schema.chat_stats_fold_shards();
    END IF;
    folded := stats_schema.chat_stats_rollup_add($changes$
        moved AS (
            DELETE FROM stats_schema.chat_stats_deltas RETURNING *
        ), binned AS (
            SELECT
                {{ kept.all_dims('d.') }}d.bucket,
                stats_schema.chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END) AS bin,
                d.timed AS n
            FROM moved AS d
            WHERE d.times IS NULL AND d.timed <> 0
            UNION ALL
            SELECT {{ kept.all_dims('d.') }}d.bucket, stats_schema.chat_stats_bin(u.time_ms), sign(d.timed)::bigint
            FROM moved AS d
            CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
            WHERE d.times IS NOT NULL
{% for rollup, sums_from, cells_from in fold_sources() %}
        ), {{ rollup.name }}_slot_sums AS MATERIALIZED (
            SELECT
                {{ kept.dims(rollup, 'd.') }}{{ kept.day_and_slot('d', of_bucket=not sums_from) }},
                {{ each('sum(d.{name}{float}){cast} AS {name}', 16) }}
            FROM {{ sums_from.name ~ '_slot_sums' if sums_from else 'moved' }} AS d
            GROUP BY {{ kept.dims(rollup, 'd.') }}{{ 'd.day, d.slot' if sums_from else 'd.bucket' }}
            HAVING {{ kept.changed('d', '{float}') }}
        ), {{ rollup.name }}_cells AS MATERIALIZED (
            SELECT
                {{ kept.dims(rollup, 'b.') }}{{ kept.day_and_slot('b', of_bucket=not cells_from) }}, b.bin,
                sum(b.n::double precision)::bigint AS n
            FROM {{ cells_from.name ~ '_cells' if cells_from else 'binned' }} AS b
            {{ 'WHERE false' if not rollup.histograms }}
            GROUP BY {{ kept.dims(rollup, 'b.') }}{{ 'b.day, b.slot' if cells_from else 'b.bucket' }}, b.bin
            HAVING sum(b.n::double precision) <> 0
{% endfor %}
        )
    $changes$, 'moved', NULL::text);
    kept_until := (SELECT max(k.bucket) + interval '15 minutes' FROM stats_schema.chat_stats_kept AS k);
    IF kept_until IS NOT NULL THEN
        retained := stats_schema.chat_stats_purged_add($changes$
            moved AS (
                DELETE FROM stats_schema.chat_stats_kept RETURNING *
{% for rollup in rollups if not finer(rollup) %}
            ), {{ rollup.name }}_changes AS (
                SELECT
                    {{ kept.dims(rollup, 'k.') }}k.bucket,
                    CASE WHEN k.timed > 0 THEN stats_schema.chat_stats_bin(k.time_ms) END AS bin,
                    {{ each('k.{name}') }}, k.timed AS n
                FROM moved AS k
{% endfor %}
            )
        $changes$, 'moved');
    END IF;
    UPDATE stats_schema.chat_stats_rollup_state
    SET folded_at = clock_timestamp(), purged_before = GREATEST(purged_before, kept_until),
        retained_requests = retained_requests + retained;
    RETURN folded;
END
$function$;
$install$);

-- It handles many rows at once, seldom, and alone: memory that the usual few megabytes would spill to disk.
ALTER FUNCTION chat_stats_fold() SET work_mem = '64MB';
ALTER FUNCTION chat_stats_fold() SET jit = off;
