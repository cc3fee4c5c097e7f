-- True; an error where one of these columns of the requests is generated when it is read ("virtual", as Postgres 18 makes
-- them unless told otherwise): in transition tables they have no value, and reading one fails. Said to be immutable, so that
-- it is called while the trigger's statements are planned, and never for a row: a change of the table makes them be planned
-- again.
SELECT chat_stats_install('chat_stats_are_stored', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_are_stored(p_columns text[])
RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE
AS $function$
DECLARE
    requests oid := 'gateway_schema.chat_completion_requests'::regclass::oid;
    last_column smallint;
    generated text;
BEGIN
    SELECT max(a.attnum), string_agg(a.attname::text, ', '::text ORDER BY a.attnum) FILTER (
        WHERE a.attgenerated = 'v'::"char" AND NOT a.attisdropped AND a.attname = ANY (p_columns::name[])
    )
    INTO last_column, generated
    FROM pg_attribute AS a
    WHERE a.attrelid = requests;
    IF generated IS NOT NULL THEN
        RAISE EXCEPTION '% of chat_completion_requests is generated when it is read, and triggers cannot read it', generated;
    ELSIF has_column_privilege(requests, (last_column + 1)::smallint, 'SELECT'::text) IS NOT NULL THEN
        RAISE EXCEPTION 'chat_completion_requests got a column that is younger than the snapshot of the transaction';
    END IF;
    RETURN true;
END
$function$;
$install$);
