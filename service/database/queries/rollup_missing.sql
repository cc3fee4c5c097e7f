-- Which of the tables $1 there are not.
SELECT ARRAY(
    SELECT n.name FROM unnest($1::text[]) AS n (name) WHERE to_regclass('stats_schema.' || n.name) IS NULL
)
