-- What there is: $1 are all tables of the rollup, $2 those that hold numbers.
SELECT
    t.triggers, t.firing,
    ARRAY(SELECT name FROM unnest($1::text[]) AS n (name)
    WHERE to_regclass('stats_schema.' || name) IS NULL) AS missing,
    (SELECT COALESCE(sum(pg_total_relation_size(to_regclass('stats_schema.' || name))), 0)
     FROM unnest($2::text[]) AS n (name))::bigint AS rollup_bytes,
    (SELECT sum(pg_total_relation_size(relid)) FROM (
        SELECT 'gateway_schema.chat_completion_requests'::regclass AS relid
        UNION SELECT p.relid FROM pg_partition_tree('gateway_schema.chat_completion_requests'::regclass) AS p
    ) AS parts)::bigint AS table_bytes
FROM (
    SELECT count(*) AS triggers, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS firing
    FROM pg_trigger
    WHERE tgrelid = 'gateway_schema.chat_completion_requests'::regclass AND tgname = ANY ($3::text[])
) AS t
