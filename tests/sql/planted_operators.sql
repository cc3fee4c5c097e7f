-- Operators for each pair of {types}, unless pg_catalog has just that one. Filled in by planting.py.
DO $plant$
DECLARE
    left_type regtype; right_type regtype; operator text; kind text;
BEGIN
    FOR left_type, right_type IN
        SELECT l::regtype, r::regtype FROM unnest({types}) AS l CROSS JOIN unnest({types}) AS r
    LOOP
        FOREACH kind IN ARRAY ARRAY['bool', left_type::text] LOOP
            EXECUTE format(
                $f$CREATE OR REPLACE FUNCTION {schema}.%I(%s, %s) RETURNS %s LANGUAGE plpgsql IMMUTABLE AS
                $b$BEGIN RAISE LOG USING MESSAGE = %L; RETURN NULL; END$b$$f$,
                'operator_' || kind, left_type, right_type, kind,
                format('{mark}: operator of %s and %s', left_type, right_type)
            );
        END LOOP;
        FOREACH operator IN ARRAY {comparisons} || {arithmetic} LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_operator AS o
                WHERE o.oprname = operator AND o.oprleft = left_type AND o.oprright = right_type
                  AND o.oprnamespace IN ('pg_catalog'::regnamespace, '{schema}'::regnamespace)
            );
            EXECUTE format(
                'CREATE OPERATOR {schema}.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = {schema}.%I)',
                operator, left_type, right_type,
                'operator_' || CASE WHEN operator = ANY ({comparisons}) THEN 'bool' ELSE left_type::text END
            );
        END LOOP;
    END LOOP;
END
$plant$
