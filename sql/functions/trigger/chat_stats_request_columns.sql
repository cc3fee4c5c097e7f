-- What the requests' table is now, as far as the rollup is made from it: the table itself, what its statuses mean, and
-- of each column that we read its number and its type. A column that was dropped and added again, or retyped, may hold
-- other values. The triggers count without cost_usd where it is missing, so of this one also which transaction made or
-- renamed it last.
SELECT chat_stats_install('chat_stats_request_columns', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_request_columns()
RETURNS jsonb
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    RETURN (
        SELECT jsonb_build_object('relation', a.attrelid, 'statuses', stats_schema.chat_stats_statuses())
            || jsonb_object_agg(
                a.attname,
                concat_ws(
                    ' ', a.attnum, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attname = 'cost_usd' THEN a.xmin END
                )
            )
        FROM pg_attribute AS a
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
          AND a.attname IN (
              {% for name in built_in_dimensions %}'{{ name }}', {% endfor %}'created_at', 'status'{% for column in columns %}, '{{ column.name }}'{% endfor %}

          )
          AND NOT a.attisdropped
        GROUP BY a.attrelid
    );
END
$function$;
$install$);
