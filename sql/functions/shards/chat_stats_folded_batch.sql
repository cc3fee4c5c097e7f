-- The last batch that the rollups have, as the caller's snapshot sees them: what is in later ones, or in none yet, is to
-- be added to them.
SELECT chat_stats_install('chat_stats_folded_batch', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_folded_batch()
RETURNS bigint
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    IF to_regclass('stats_schema.chat_stats_batches') IS NULL THEN
        RAISE EXCEPTION 'the coordinator of Citus has the statistics, and no other node' USING ERRCODE = 'undefined_table';
    END IF;
    RETURN (SELECT COALESCE(max(b.batch), 0) FROM stats_schema.chat_stats_batches AS b WHERE b.folded);
END
$function$;
$install$);
