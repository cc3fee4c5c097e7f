-- All providers, also those without models.
SELECT id::text AS id FROM gateway_schema.providers ORDER BY id
