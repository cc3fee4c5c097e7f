-- Writes the statements that give a table (or each partition of it) a btree index on the given columns;
-- none where an equivalent valid index exists already. The caller runs them one by one; with
-- p_concurrently outside a transaction, so that a large live table keeps accepting writes meanwhile.
--
-- A partitioned table cannot be indexed concurrently as a whole: its partitions are, one by one, and the
-- parent then adopts them. An interrupted concurrent build leaves an invalid index behind: it is dropped
-- and built again.
CREATE OR REPLACE FUNCTION chat_stats_index_statements(
    p_table regclass, p_name text, p_columns name[], p_concurrently boolean
)
RETURNS SETOF text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    column_list text := (
        SELECT string_agg(quote_ident(col), ', ' ORDER BY ordinal)
        FROM unnest(p_columns) WITH ORDINALITY AS t (col, ordinal)
    );
    target record;
    existing record;
    index_name name;
    found_valid boolean;
BEGIN
    FOR target IN
        SELECT c.oid AS relation, c.relkind
        FROM pg_class AS c
        WHERE c.oid = p_table
           OR c.oid IN (SELECT relid FROM pg_partition_tree(p_table) WHERE isleaf)
        ORDER BY c.oid = p_table
    LOOP
        CONTINUE WHEN target.relkind NOT IN ('r', 'p');  -- a foreign partition has no index of ours
        CONTINUE WHEN EXISTS (  -- there is none of a column that is generated when it is read
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = target.relation AND a.attname = ANY (p_columns) AND a.attgenerated = 'v'
        );
        index_name := CASE WHEN target.relation = p_table THEN p_name
                           ELSE left(p_name, 48) || '_' || target.relation::text END;
        found_valid := false;
        FOR existing IN
            SELECT i.indexrelid, i.indisvalid, ic.relname
            FROM pg_index AS i
            JOIN pg_class AS ic ON ic.oid = i.indexrelid
            JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
            WHERE i.indrelid = target.relation
              AND i.indpred IS NULL
              AND i.indnkeyatts >= cardinality(p_columns)  -- the rest are carried along (INCLUDE)
              AND p_columns = (
                  SELECT array_agg(a.attname ORDER BY k.ordinal)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, ordinal)
                  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.ordinal <= cardinality(p_columns)
              )
        LOOP
            found_valid := found_valid OR existing.indisvalid;
            IF existing.relname = index_name AND NOT existing.indisvalid AND target.relkind = 'r' THEN
                RETURN NEXT format(
                    'DROP INDEX %s %s',
                    CASE WHEN p_concurrently THEN 'CONCURRENTLY' ELSE '' END, existing.indexrelid::regclass
                );
            END IF;
        END LOOP;
        IF NOT found_valid THEN
            RETURN NEXT format(
                'CREATE INDEX %s %I ON %s (%s)',
                CASE WHEN p_concurrently AND target.relkind = 'r' THEN 'CONCURRENTLY' ELSE '' END,
                index_name, target.relation::regclass, column_list
            );
        END IF;
    END LOOP;
END
$function$;
