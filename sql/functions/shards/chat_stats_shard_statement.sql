{% import 'macros/requests.sql.j2' as requests %}
-- A statement for the nodes that sums up, by model and interval (without p_interval: NULL), what the coordinator's rollups
-- do not know of [p_start, p_end). With p_part:
--
--   rollup   the deltas of the whole buckets that are not folded, and the requests at the ragged edges: chat_stats_edges()
--   scan     all requests of the range, and no delta
--
-- and in both what is kept of purged requests and not folded, whose buckets count where they begin. It has the measures,
-- or with p_bins the bins of times and their counts `n`; and `trouble`, where a write could not be counted.
--
-- Bounds and filters are constants, and each branch is of one shard: so Citus pushes all of it down.
SELECT chat_stats_claim_function('chat_stats_shard_statement');

SELECT chat_stats_install('chat_stats_shard_statement', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_shard_statement(
    p_part text, p_bins boolean, p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz,
    p_models text[]
)
RETURNS text
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    has_purged boolean := stats_schema.chat_stats_has_purged();
    unfolded text := CASE
        WHEN p_part = 'rollup' OR has_purged
        THEN format('(batch IS NULL OR batch > %s)', stats_schema.chat_stats_folded_batch())
    END;
    -- Makes of a bucket, as SQL, the moment by which to group.
    moment text := CASE
        WHEN p_interval IS NULL THEN 'NULL::timestamptz'
        ELSE format('stats_schema.chat_stats_interval_start(%L::text, BUCKET, %L::text)', p_interval, p_timezone)
    END;
    of_models text := CASE
        WHEN p_models IS NOT NULL THEN format(
            ' AND model_id = ANY (%L::%s[])', p_models, pg_typeof((NULL::stats_schema.chat_stats_deltas).model_id)
        )
        ELSE ''
    END;
    moment_of_bucket text := replace(moment, 'BUCKET', 'bucket');
    moment_of_request text := replace(moment, 'BUCKET', 'stats_schema.chat_stats_bucket(created_at::timestamptz)');
    branches text[] := '{}';
    piece record;
    in_piece text;
    -- Which deltas a branch reads; and whether one of them reads those that say `trouble`, whose numbers are 0.
    deltas text;
    finds_trouble boolean := false;
BEGIN
    FOR piece IN
        SELECT 'requests' AS tier, 1 AS sign, p_start AS starts, p_end AS ends WHERE p_part = 'scan'
        UNION ALL
        SELECT 'buckets', 1, NULL, NULL WHERE p_part = 'rollup' AND p_start IS NULL AND p_end IS NULL
        UNION ALL
        SELECT e.tier, e.sign, e.starts, e.ends FROM stats_schema.chat_stats_edges(p_start, p_end) AS e
        WHERE p_part = 'rollup' AND (p_start IS NOT NULL OR p_end IS NOT NULL)
    LOOP
        in_piece := CASE WHEN piece.starts IS NOT NULL THEN format(' AND MOMENT >= %L::timestamptz', piece.starts) ELSE '' END
            || CASE WHEN piece.ends IS NOT NULL THEN format(' AND MOMENT < %L::timestamptz', piece.ends) ELSE '' END;
        IF piece.tier = 'buckets' OR has_purged THEN
            deltas := CASE WHEN p_bins THEN 'n <> 0 AND ' ELSE '' END
                || CASE WHEN piece.tier = 'requests' THEN 'kept' ELSE 'NOT kept' END
                || replace(in_piece, 'MOMENT', 'bucket') || of_models;
            IF piece.tier = 'buckets' THEN
                deltas := format('(trouble IS NOT NULL OR %s)', deltas);
                finds_trouble := true;
            END IF;
            branches := branches || format(
                CASE WHEN p_bins THEN $branch$
                    SELECT model_id, %1$s, bin, %2$s * n, trouble
                    FROM stats_schema.chat_stats_shard_deltas
                    WHERE %3$s AND %4$s
                $branch$ ELSE $branch$
                    SELECT model_id, %1$s, {{ each('%2$s * {name}') }}, trouble
                    FROM stats_schema.chat_stats_shard_deltas
                    WHERE %3$s AND %4$s
                $branch$ END,
                moment_of_bucket, piece.sign, unfolded, deltas
            );
        END IF;
        CONTINUE WHEN piece.tier <> 'requests';
        branches := branches || format(
            CASE WHEN p_bins THEN $branch$
                SELECT r.model_id, %1$s, stats_schema.chat_stats_bin(r.{{ measure('time_ms').column.name }}::numeric), %2$s::bigint, NULL::text
                FROM (
                    SELECT model_id, created_at, {{ measure('time_ms').column.name }}
                    FROM gateway_schema.chat_completion_requests
                    WHERE {{ requests.in_bounds(measure('time_ms').column.name) }} %3$s
                ) AS r
            $branch$ ELSE $branch$
                SELECT s.model_id, s.moment, {{ each('%2$s * s.{name}') }}, NULL::text
                FROM (
                    SELECT
                        u.model_id, u.moment,
                        {{ requests.of_status() | indent(24) }}
                    FROM (
                        SELECT
                            r.model_id, %1$s AS moment, r.status,
                            {{ requests.by_status() | indent(28) }}
                        FROM {{ requests.absent() }}
                        CROSS JOIN LATERAL (
                            SELECT model_id, created_at, status, {{ requests.as_they_are() }}
                            FROM gateway_schema.chat_completion_requests
                            WHERE true %3$s
                        ) AS r
                        GROUP BY r.model_id, 2, r.status
                    ) AS u
                ) AS s
            $branch$ END,
            moment_of_request, piece.sign, replace(in_piece, 'MOMENT', 'created_at') || of_models
        );
    END LOOP;
    IF p_part = 'rollup' AND NOT finds_trouble THEN
        branches := branches || format(
            'SELECT model_id, NULL::timestamptz, '
            || CASE WHEN p_bins THEN 'NULL::smallint, 0::bigint' ELSE '{{ each('0::{type}') }}' END
            || ', trouble FROM stats_schema.chat_stats_shard_deltas WHERE trouble IS NOT NULL AND %s', unfolded
        );
    END IF;
    RETURN CASE WHEN p_bins
        THEN 'SELECT model_id, moment, bin, sum(n)::bigint AS n, max(trouble) AS trouble FROM ('
        ELSE 'SELECT model_id, moment, {{ each('sum({name}){cast} AS {name}') }}, max(trouble) AS trouble FROM ('
    END || array_to_string(branches, ' UNION ALL ') || CASE WHEN p_bins
        THEN ') AS u (model_id, moment, bin, n, trouble) GROUP BY model_id, moment, bin'
        ELSE ') AS u (model_id, moment, {{ each('{name}') }}, trouble) GROUP BY model_id, moment'
    END;
END
$function$;
$install$);
