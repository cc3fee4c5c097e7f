-- All providers, also those without models.
SELECT id::text AS id FROM providers ORDER BY id
