{% import 'macros/requests.sql.j2' as requests with context %}
-- Columns of the requests ($1: their names) with their types.
{{ requests.typed_columns() }}
  AND a.attname::text = ANY ($1::text[])
