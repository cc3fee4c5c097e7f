-- The partitions of the requests and the time that each may hold: all of it, where they are not by created_at.
SELECT chat_stats_claim_function('chat_stats_partitions_now');

SELECT chat_stats_install('chat_stats_partitions_now', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_partitions_now()
RETURNS TABLE (partition oid, starts timestamptz, ends timestamptz)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        t.relid::oid,
        CASE WHEN b.bounds[1] LIKE '''%' THEN btrim(b.bounds[1], '''')::timestamptz ELSE '-infinity' END,
        CASE WHEN b.bounds[2] LIKE '''%' THEN btrim(b.bounds[2], '''')::timestamptz ELSE 'infinity' END
    FROM pg_partition_tree('gateway_schema.chat_completion_requests'::regclass) AS t
    JOIN pg_class AS c ON c.oid = t.relid
    CROSS JOIN LATERAL (
        SELECT CASE WHEN pg_get_partkeydef(t.parentrelid) = 'RANGE (created_at)' THEN
            regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \((.*)\) TO \((.*)\)$')
        END AS bounds
    ) AS b
    WHERE t.isleaf AND t.level > 0;
END
$function$;
$install$);
