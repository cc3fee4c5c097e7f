-- The models that have a provider, with both; models.model_id is null where the column is missing.
-- $1, $2: a provider's and a model's id as text. NULL: no limit.
SELECT
    m.id, m.identifier AS model_id, m.model_name, COALESCE(m.identifier, m.provider_model_id) AS model_identifier,
    m.provider_model_id, p.id AS provider_id, p.name::text AS provider_name, p.slug::text AS provider_slug
FROM (SELECT NULL::text AS model_id) AS absent
CROSS JOIN LATERAL (
    SELECT
        id, provider_id, model_id::text AS identifier, model_name::text AS model_name,
        provider_model_id::text AS provider_model_id
    FROM gateway_schema.models
) AS m
JOIN gateway_schema.providers AS p ON p.id = m.provider_id
WHERE ($1::text IS NULL OR p.id::text = $1)
  AND ($2::text IS NULL OR m.id::text = $2)
