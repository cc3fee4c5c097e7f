-- Overloads of the functions {names} of the schema {of}: with each of {types} in place of one argument, or of all that
-- may have any type; and with fewer arguments than they have. Filled in by planting.py.
DO $plant$
DECLARE
    found record; type regtype; place int; arguments text[]; called text; result text; made record;
BEGIN
    CREATE TEMPORARY TABLE wanted (name name, aggregate bool, setof bool, arguments text[], result text);
    FOR found IN
        SELECT
            p.proname AS name, p.prokind = 'a' AS aggregate, p.proretset AS setof, p.prorettype::regtype::text AS result,
            p.pronargdefaults AS defaults, p.provariadic <> 0 AS variadic,
            ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) AS t) AS arguments
        FROM pg_proc AS p
        WHERE p.pronamespace = '{of}'::regnamespace AND p.proname = ANY ({names}) AND p.prokind <> 'p'
          AND p.prorettype NOT IN ('cstring'::regtype, 'internal'::regtype, 'trigger'::regtype)
          AND NOT p.proargtypes::oid[] && ARRAY['internal', 'cstring']::regtype[]::oid[]
    LOOP
        IF found.variadic THEN
            found.arguments := array_remove(found.arguments, found.arguments[cardinality(found.arguments)]);
        END IF;
        FOREACH type IN ARRAY {types}::regtype[] LOOP
            arguments := ARRAY(
                SELECT CASE WHEN a IN ('anyarray', 'anycompatiblearray') THEN format_type(type, NULL) || '[]'
                            WHEN a ~ '^"?any' THEN format_type(type, NULL) ELSE a END
                FROM unnest(found.arguments) WITH ORDINALITY AS t (a, n) ORDER BY n
            );
            result := CASE WHEN found.result IN ('anyarray', 'anycompatiblearray') THEN format_type(type, NULL) || '[]'
                           WHEN found.result ~ '^any' THEN format_type(type, NULL) ELSE found.result END;
            INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
            FOR place IN 1 .. cardinality(arguments) LOOP
                arguments[place] := format_type(type, NULL);
                INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
                arguments[place] := found.arguments[place];
            END LOOP;
            IF found.variadic THEN
                FOR place IN 1 .. 3 LOOP
                    arguments := arguments || format_type(type, NULL);
                    INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
                    INSERT INTO wanted
                    VALUES (found.name, found.aggregate, found.setof, ARRAY['text']::text[] || arguments, result);
                END LOOP;
            END IF;
        END LOOP;
        FOR place IN cardinality(found.arguments) - found.defaults .. cardinality(found.arguments) - 1 LOOP
            INSERT INTO wanted VALUES (found.name, false, found.setof, found.arguments[1:place], found.result);
        END LOOP;
    END LOOP;
    FOR made IN SELECT DISTINCT * FROM wanted AS w WHERE NOT array_to_string(w.arguments, ' ') ~ 'any|\[\]\[\]' LOOP
        called := made.name || '(' || array_to_string(made.arguments, ', ') || ')';
        CONTINUE WHEN to_regprocedure('pg_catalog.' || called) IS NOT NULL
            OR to_regprocedure('{schema}.' || called) IS NOT NULL OR cardinality(made.arguments) = 0
               AND made.aggregate;
        BEGIN
            EXECUTE format(
                $f$CREATE FUNCTION {schema}.%I(%s) RETURNS %s LANGUAGE plpgsql IMMUTABLE AS
                $b$BEGIN RAISE LOG USING MESSAGE = %L; RETURN%s; END$b$$f$,
                CASE WHEN made.aggregate THEN 'step_' || made.name ELSE made.name END,
                array_to_string(CASE WHEN made.aggregate THEN ARRAY['numeric'] ELSE '{{}}' END || made.arguments, ', '),
                CASE WHEN made.aggregate THEN 'numeric' WHEN made.setof THEN 'SETOF ' || made.result
                     ELSE made.result END,
                '{mark}: function ' || called, CASE WHEN made.setof AND NOT made.aggregate THEN '' ELSE ' NULL' END
            );
            IF made.aggregate THEN
                EXECUTE format(
                    'CREATE AGGREGATE {schema}.%I(%s) (SFUNC = {schema}.%I, STYPE = numeric)',
                    made.name, array_to_string(made.arguments, ', '), 'step_' || made.name
                );
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RAISE DEBUG 'not planted: %, %', called, SQLERRM;  -- not each combination of types makes sense
        END;
    END LOOP;
    DROP TABLE wanted;
END
$plant$
