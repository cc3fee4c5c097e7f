{% import 'macros/values.sql.j2' as values %}
{# The kind of error of a request `q`; NULL unless it failed. error_message is optional: where the requests lack it, it is
   found one scope out. LIKE, since it takes no pattern that would run for ever. #}
CASE WHEN {{ values.means_success('concat(q.status)') }} OR {{ values.means_pending('concat(q.status)') }} THEN NULL
     ELSE (
         SELECT CASE {% for pattern, kind in kinds %}WHEN t.message LIKE ANY ({{ pattern }}) THEN {{ kind }} {% endfor %}WHEN true THEN {{ other }} END
         FROM (
             SELECT concat(
                 ' ', translate(lower(concat(left(concat(error_message) COLLATE "default", {{ characters }}), ' ', concat(q.status) COLLATE "default")), {{ separators }}, {{ blanks }}), ' '
             ) AS message
             FROM unnest(ARRAY[true]) AS one  -- without a FROM, Citus could not plan it
             OFFSET 0
         ) AS t
     ) END
