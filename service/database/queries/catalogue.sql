{% import 'macros/requests.sql.j2' as requests %}
-- The models that have a provider, without touching the requests.
-- $1, $2, $3: a provider's and a model's id as text, and what a model's name contains. NULL: no limit.
SELECT k.*
FROM (
    {{ requests.catalogue('$1::text', '$2::text') | indent(4) }}
) AS k
WHERE $3::text IS NULL OR {{ requests.contains('k.model_name', '$3') }}
ORDER BY k.model_id
