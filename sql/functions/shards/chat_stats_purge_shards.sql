{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/rollups.sql.j2' as kept %}
-- Deletes the requests in [p_start, p_end) on the nodes of Citus, and appends there what is kept of them, which folds move
-- to the coordinator; and once more what the triggers take away. So on each node all of it is one commit. Returns how many
-- requests were deleted. For chat_stats_purge(), which compares before and after.
SELECT chat_stats_claim_function('chat_stats_purge_shards');

SELECT chat_stats_install('chat_stats_purge_shards', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purge_shards(p_start timestamptz, p_end timestamptz)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    deleted bigint;
BEGIN
    EXECUTE format(
        $keep$
            INSERT INTO stats_schema.chat_stats_shard_deltas ({{ kept.all_dims(further=false) }}bucket, bin, {{ each('{name}') }}, n, kept)
            SELECT
                {{ kept.all_dims('c.', further=false) }}c.bucket, c.bin, {{ each('sum(c.{name}){cast}') }}, sum(c.n)::bigint, k.kept
            FROM (
                SELECT
                    {{ kept.all_dims('r.', further=false) }}stats_schema.chat_stats_bucket(r.created_at::timestamptz) AS bucket,
                    stats_schema.chat_stats_bin(r.time_ms) AS bin,
                    {{ requests.of_request() | indent(20) }},
                    CASE WHEN r.time_ms IS NULL THEN 0 ELSE 1 END AS n
                FROM {{ requests.absent() }}
                CROSS JOIN LATERAL (
                    SELECT
                        {{ kept.read_dims(further=false) | indent(24) }}created_at, status,
                        {{ requests.numbers() | indent(24) }}
                    FROM gateway_schema.chat_completion_requests
                    WHERE created_at >= %1$L::timestamptz AND created_at < %2$L::timestamptz
                ) AS r
            ) AS c
            CROSS JOIN (VALUES (true), (false)) AS k (kept)
            GROUP BY {{ kept.all_dims('c.', further=false) }}c.bucket, c.bin, k.kept
        $keep$,
        p_start, p_end
    );
    EXECUTE format(
        'DELETE FROM gateway_schema.chat_completion_requests '
        'WHERE created_at >= %1$L::timestamptz AND created_at < %2$L::timestamptz',
        p_start, p_end
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    UPDATE stats_schema.chat_stats_rollup_state SET purged_before = GREATEST(purged_before, p_end) WHERE deleted > 0;
    RETURN deleted;
END
$function$;
$install$);
