{% import 'macros/requests.sql.j2' as requests %}
-- The models that have a provider, without touching the requests.
-- $1, $2: a provider's and a model's id as text. NULL: no limit.
{{ requests.catalogue('$1::text', '$2::text') }}
ORDER BY m.id
