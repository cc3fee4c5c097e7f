-- How old the caller's snapshot is, at most. (One that a clock set back makes younger than nothing is too old for all.)
SELECT chat_stats_install('chat_stats_snapshot_age', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_snapshot_age()
RETURNS interval
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    age interval := clock_timestamp() - CASE
        WHEN current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN statement_timestamp()
        ELSE now()
    END;
BEGIN
    RETURN CASE WHEN age < interval '0' THEN interval '1 day' ELSE age END;
END
$function$;
$install$);
