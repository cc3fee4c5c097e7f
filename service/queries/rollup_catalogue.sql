-- What there is: $2 are all tables of the rollup, $3 those that hold numbers.
SELECT
    t.triggers, t.firing,
    ARRAY(SELECT name FROM unnest($2::text[]) AS n (name) WHERE to_regclass(name) IS NULL) AS missing,
    (SELECT COALESCE(sum(pg_total_relation_size(to_regclass(name))), 0)
     FROM unnest($3::text[]) AS n (name))::bigint AS rollup_bytes,
    (SELECT sum(pg_total_relation_size(relid)) FROM (
        SELECT $1::text::regclass AS relid
        UNION SELECT p.relid FROM pg_partition_tree($1::text::regclass) AS p
    ) AS parts)::bigint AS table_bytes
FROM (
    SELECT count(*) AS triggers, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS firing
    FROM pg_trigger
    WHERE tgrelid = $1::text::regclass AND tgname = ANY ($4)
) AS t
