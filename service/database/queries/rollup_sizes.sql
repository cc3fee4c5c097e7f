-- What the tables of the rollup ($1) take, and those of the requests.
SELECT
    (SELECT COALESCE(sum(pg_total_relation_size(to_regclass('stats_schema.' || n.name))), 0)
     FROM unnest($1::text[]) AS n (name))::bigint AS rollup_bytes,
    (SELECT sum(pg_total_relation_size(parts.relid)) FROM (
        SELECT 'gateway_schema.chat_completion_requests'::regclass AS relid
        UNION SELECT p.relid FROM pg_partition_tree('gateway_schema.chat_completion_requests'::regclass) AS p
    ) AS parts)::bigint AS table_bytes
