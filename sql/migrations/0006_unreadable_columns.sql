{% import 'macros/requests.sql.j2' as requests %}
-- The columns that cannot be read for their type, and what would be right. Of an optional one a warning says so, and
-- it counts as missing; any other is an error.
SELECT chat_stats_install('chat_stats_unreadable_columns', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_unreadable_columns()
RETURNS TABLE (name text, type text, wanted text)
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN QUERY
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), w.wanted
    FROM (VALUES
        ('model_id', 'the type of models.id'),
        ('created_at', 'timestamp with or without time zone'),
{% for column in columns %}
        ('{{ column.name }}', '{{ 'numeric' if column.optional else 'int, bigint or numeric' }}'){{ ',' if not loop.last }}
{% endfor %}
    ) AS w (name, wanted)
    JOIN pg_attribute AS a ON a.attname = w.name
    WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND NOT a.attisdropped
      AND NOT CASE w.name
          WHEN 'created_at' THEN a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
          WHEN 'model_id' THEN EXISTS (
              SELECT FROM pg_attribute AS m
              JOIN pg_type AS t ON t.oid = m.atttypid
              JOIN pg_type AS r ON r.oid = a.atttypid
              WHERE m.attrelid = 'gateway_schema.models'::regclass AND m.attname = 'id' AND NOT m.attisdropped
                AND (t.oid = r.oid OR t.typcategory = r.typcategory AND t.typcategory IN ('N', 'S')
                     OR t.oid = r.typbasetype OR r.oid = t.typbasetype)
          )
          ELSE stats_schema.chat_stats_is_number(a.atttypid)
      END;
END
$function$;
$install$);

SELECT chat_stats_run($run$
DO $migration$
DECLARE
    unreadable record;
BEGIN
    FOR unreadable IN SELECT * FROM stats_schema.chat_stats_unreadable_columns() LOOP
        IF unreadable.name = ANY ({{ requests.optional() }}) THEN
            RAISE WARNING 'chat_completion_requests.% is of type %, which cannot be summed (% can): it counts as missing',
                unreadable.name, unreadable.type, unreadable.wanted;
        ELSE
            RAISE EXCEPTION 'chat_completion_requests.% is of type %; chat-stats reads %',
                unreadable.name, unreadable.type, unreadable.wanted
                USING ERRCODE = 'datatype_mismatch';
        END IF;
    END LOOP;
END
$migration$;
$run$);
