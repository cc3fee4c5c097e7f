-- The models or providers (`table`) with the ids $1, which are given as text: with their names.
SELECT t.id, t.id::text AS value, t.{{ name }}::text AS name
FROM gateway_schema.{{ table }} AS t
WHERE t.id::text = ANY ($1::text[])
