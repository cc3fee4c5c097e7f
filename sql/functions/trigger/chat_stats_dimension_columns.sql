-- What some columns of the requests are now: their numbers, their types, and which transactions made or renamed each last.
-- A column that was dropped and added again, renamed back, or retyped may hold other values meanwhile.
SELECT chat_stats_install('chat_stats_dimension_columns', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_dimension_columns(p_columns text[])
RETURNS jsonb
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(
            jsonb_object_agg(
                a.attname, concat_ws(' ', a.attrelid, a.attnum, format_type(a.atttypid, a.atttypmod), a.xmin)
            ),
            '{}'
        )
        FROM pg_attribute AS a
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
          AND a.attname = ANY (p_columns::name[]) AND NOT a.attisdropped
    );
END
$function$;
$install$);
