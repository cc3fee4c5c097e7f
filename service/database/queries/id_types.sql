-- The types of the ids of models and providers.
SELECT t.kind, format_type(a.atttypid, a.atttypmod) AS type
FROM (
    VALUES ('model', 'gateway_schema.models'::regclass), ('provider', 'gateway_schema.providers'::regclass)
) AS t (kind, relation)
JOIN pg_attribute AS a ON a.attrelid = t.relation AND a.attname = 'id' AND NOT a.attisdropped
