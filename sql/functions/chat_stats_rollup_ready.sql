-- Whether the rollup may be read: its backfill is done, its triggers are there and fire, and whoever asks may
-- read its tables and sees all of them and of the requests. Else the requests are scanned.
CREATE OR REPLACE FUNCTION chat_stats_rollup_ready()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    -- One after the other: the statement further down names a table that this one looks for.
    IF row_security_active('chat_completion_requests') OR EXISTS (
        SELECT FROM unnest(ARRAY[
            'chat_stats_rollup_state', 'chat_stats_deltas', 'chat_stats_purged',
            'chat_stats_rollup_slots', 'chat_stats_rollup_days', 'chat_stats_rollup_months',
            'chat_stats_rollup_lifetime'
        ]) AS t (name)
        WHERE NOT COALESCE(has_table_privilege(to_regclass(t.name), 'SELECT'), false)
           OR row_security_active(to_regclass(t.name)::oid)
    ) THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM chat_stats_rollup_state WHERE ready) AND 4 = (
        SELECT count(*) FROM pg_trigger AS t
        WHERE t.tgrelid = 'chat_completion_requests'::regclass
          AND t.tgname LIKE 'chat\_stats\_%'
          AND t.tgenabled IN ('O', 'A')
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rollup_ready()');
