-- The table of the requests and its partitions (and what else inherits from it), with how many of our triggers fire
-- on each: a statement fires those of the table that it names, so each needs all four. Foreign tables can have none, and a
-- rollup would not know what is written to them.
SELECT chat_stats_claim_function('chat_stats_request_tables');

SELECT chat_stats_install('chat_stats_request_tables', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_request_tables()
RETURNS TABLE (relation oid, firing bigint)
LANGUAGE plpgsql
STABLE
ROWS 1
AS $function$
BEGIN
    RETURN QUERY
    WITH RECURSIVE tree AS (
        SELECT 'gateway_schema.chat_completion_requests'::regclass::oid AS relation
        UNION
        SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.relation
    )
    SELECT t.relation, (
        SELECT count(*) FROM pg_trigger AS g
        WHERE g.tgrelid = t.relation
          AND g.tgname IN ('chat_stats_insert', 'chat_stats_update', 'chat_stats_delete', 'chat_stats_truncate')
          AND g.tgenabled IN ('O', 'A')
    )
    FROM tree AS t;
END
$function$;
$install$);
