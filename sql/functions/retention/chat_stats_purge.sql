{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/rollups.sql.j2' as kept %}
-- Deletes the requests in [p_start, p_end), which must be edges of buckets, and keeps their sums: no statistic
-- changes. Returns how many it deleted; or how many models' buckets differ from the requests, and has then deleted
-- nothing.
--
-- The trigger is not told that this is no ordinary DELETE, so that no other session can tell it either: it subtracts
-- these requests as ever, and they are added again here, in the same statement that keeps their sums. What is kept
-- is made from the rows that were deleted, one by one: whatever others write meanwhile is neither lost nor counted
-- twice. Verified and deleted is in one snapshot, hence REPEATABLE READ.
SELECT chat_stats_claim_function('chat_stats_purge');

SELECT chat_stats_install('chat_stats_purge', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purge(
    p_start timestamptz, p_end timestamptz, OUT deleted bigint, OUT differing bigint
)
LANGUAGE plpgsql
AS $function$
DECLARE
    -- Rollups of the operator's own that are not right yet, and are not read: they may differ.
    unready text[];
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RAISE EXCEPTION 'chat_stats_purge() needs a transaction that is REPEATABLE READ';
    ELSIF (p_start, p_end) IS DISTINCT FROM (stats_schema.chat_stats_bucket(p_start),
    stats_schema.chat_stats_bucket(p_end)) THEN
        RAISE EXCEPTION 'chat_stats_purge() needs edges of 15-minute buckets';
    ELSIF p_end > now() THEN
        RAISE EXCEPTION 'chat_stats_purge() needs buckets that are over';
    ELSIF NOT stats_schema.chat_stats_rollup_ready() THEN
        RAISE EXCEPTION 'the rollup is not on, and so nothing would keep the statistics';
    END IF;
    deleted := 0;
    unready := ARRAY(SELECT r.name FROM stats_schema.chat_stats_rollups AS r WHERE NOT r.ready);
    differing := (
        SELECT count(*) FROM stats_schema.chat_stats_rollup_differences(p_start, p_end) AS d WHERE d.rollup <> ALL (unready)
    );
    IF differing > 0 THEN
        RETURN;
    END IF;
    IF stats_schema.chat_stats_on_shards() THEN
        deleted := stats_schema.chat_stats_purge_shards(p_start, p_end);
    ELSE
        deleted := stats_schema.chat_stats_purged_add(
            format(
                $changes$
                    gone AS (
                        DELETE FROM gateway_schema.chat_completion_requests
                        WHERE created_at >= %1$L::timestamptz AND created_at < %2$L::timestamptz
                        RETURNING *
                    ), changes AS MATERIALIZED (
                        SELECT
                            {{ kept.all_dims('r.') }}stats_schema.chat_stats_bucket(r.created_at::timestamptz) AS bucket,
                            stats_schema.chat_stats_bin(r.time_ms) AS bin,
                            {{ requests.of_request() | indent(28) }},
                            CASE WHEN r.time_ms IS NULL THEN 0 ELSE 1 END AS n
                        FROM {{ requests.absent() }}
                        CROSS JOIN LATERAL (
                            SELECT
                                {{ kept.read_dims() | indent(32) }}created_at, status,
                                {{ requests.numbers() | indent(32) }}
                            FROM gone
                        ) AS r
                        WHERE %3$L IS NULL OR r.created_at::timestamptz >= %3$L::timestamptz  -- else the trigger kept it
                    ), added_again AS (
                        INSERT INTO stats_schema.chat_stats_deltas (
                            {{ kept.all_dims() }}bucket, {{ each('{name}') }},
                            times
                        )
                        SELECT
                            {{ kept.all_dims('c.') }}c.bucket,
                            {{ each('sum(c.{name})', 24) }},
                            CASE WHEN sum(c.timed) > 1 THEN array_agg(c.time_ms) FILTER (WHERE c.timed = 1) END
                        FROM changes AS c
                        GROUP BY {{ kept.all_dims('c.') }}c.bucket
                    )
{% for rollup in rollups if not finer(rollup) %}
                    , {{ rollup.name }}_changes AS (SELECT * FROM changes)
{% endfor %}
                $changes$,
                p_start, p_end, stats_schema.chat_stats_kept_before()
            ),
            'gone'
        );
    END IF;
    -- Each row has been subtracted and added, unless a trigger or rule of others was in the way.
    IF EXISTS (
        SELECT FROM stats_schema.chat_stats_rollup_differences(p_start, p_end) AS d WHERE d.rollup <> ALL (unready)
    ) THEN
        RAISE EXCEPTION 'deleting the requests of [%, %) would have changed the statistics: nothing was deleted',
            p_start, p_end;
    END IF;
END
$function$;
$install$);

ALTER FUNCTION chat_stats_purge(timestamptz, timestamptz) SET work_mem = '64MB';
ALTER FUNCTION chat_stats_purge(timestamptz, timestamptz) SET jit = off;
