{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/rollups.sql.j2' as kept %}
-- What the rollups of the coordinator must have of the buckets in [p_start, p_end) (as chat_stats_rollup_changes() takes
-- them) by what the nodes of Citus hold: the requests, and what is kept of purged ones and not folded, less the deltas that
-- are not folded. One statement that is pushed down: of each model all is of one snapshot.
SELECT chat_stats_claim_function('chat_stats_shard_changes');

SELECT chat_stats_install('chat_stats_shard_changes', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_shard_changes(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
{% for name in built_in_dimensions %}
    {{ name }} stats_schema.chat_stats_deltas.{{ name }}%TYPE,
{% endfor %}
    bucket timestamptz,
    bin smallint,
    {{ each('{name} {type}', 4) }},
    n bigint
)
LANGUAGE plpgsql
STABLE
ROWS 10000
AS $function$
#variable_conflict use_column
DECLARE
    in_range text := CASE
        WHEN p_start IS NULL THEN '%1$s IS NULL'
        WHEN p_end = 'infinity' THEN format('%%1$s >= %L::timestamptz', p_start)
        ELSE format('%%1$s >= %L::timestamptz AND %%1$s < %L::timestamptz', p_start, p_end)
    END;
BEGIN
    RETURN QUERY EXECUTE format(
        $changes$
            SELECT {{ kept.all_dims(further=false) }}bucket, bin, {{ each('sum({name}){cast}') }}, sum(n)::bigint
            FROM (
                SELECT
                    {{ kept.all_dims('r.', further=false) }}stats_schema.chat_stats_bucket(r.created_at::timestamptz),
                    stats_schema.chat_stats_bin(r.time_ms),
                    {{ requests.of_request() | indent(20) }},
                    CASE WHEN r.time_ms IS NULL THEN 0 ELSE 1 END
                FROM {{ requests.absent() }}
                CROSS JOIN LATERAL (
                    SELECT
                        {{ kept.read_dims(further=false) | indent(24) }}created_at, status,
                        {{ requests.numbers() | indent(24) }}
                    FROM gateway_schema.chat_completion_requests
                    WHERE %1$s
                ) AS r
                UNION ALL
                SELECT
                    {{ kept.all_dims(further=false) }}bucket, bin, {{ each('CASE WHEN kept THEN {name} ELSE -{name} END') }},
                    CASE WHEN kept THEN n ELSE -n END
                FROM stats_schema.chat_stats_shard_deltas
                WHERE trouble IS NULL AND (batch IS NULL OR batch > %3$s) AND %2$s
            ) AS u ({{ kept.all_dims(further=false) }}bucket, bin, {{ each('{name}') }}, n)
            GROUP BY {{ kept.all_dims(further=false) }}bucket, bin
        $changes$,
        format(in_range, 'created_at'), format(in_range, 'bucket'), stats_schema.chat_stats_folded_batch()
    );
    IF stats_schema.chat_stats_snapshot_age() > interval '10 minutes' THEN
        RAISE EXCEPTION 'the snapshot is too old for the nodes of Citus: statistics need a transaction that is younger'
            USING ERRCODE = 'snapshot_too_old';
    END IF;
END
$function$;
$install$);
