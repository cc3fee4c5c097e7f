-- How the files in sql/functions/ put their functions in place: claim the name, create, adopt. A function whose
-- parameters have the same types in every schema needs no claim, and one that Postgres is to inline is registered
-- instead of adopted.
--
-- Operators and functions meet values of exactly their types: one that another role created in the schema must not
-- fit better than that of Postgres.

-- The comment by which we know our own functions: it names the id types that they were created for.
CREATE OR REPLACE FUNCTION chat_stats_function_note()
RETURNS text
LANGUAGE sql
STABLE
AS $function$
    SELECT 'chat-stats; '::text || string_agg(
        pg_catalog.format('%s.id %s', a.attrelid::regclass, format_type(a.atttypid, a.atttypmod)), ', '::text
        ORDER BY a.attrelid::oid = to_regclass('models'::text)::oid
    )
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attname = 'id'::name
      AND a.attrelid IN (to_regclass('providers'::text)::oid, to_regclass('models'::text)::oid)
$function$;

-- Keeps a function that chat-stats did not create under another name, or drops it where the same is kept already:
-- a gateway's migration that runs again creates it again each time.
CREATE OR REPLACE FUNCTION chat_stats_set_aside(p_function regprocedure)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    -- As text: the name is about to change.
    signature text := p_function::text;
    function_name text := (SELECT p.proname::text FROM pg_catalog.pg_proc AS p WHERE p.oid = p_function::oid);
    stem text := left(function_name, 40) || '_replaced_'::text;
    kept_as text;
BEGIN
    WITH candidates AS (
        SELECT
            p.oid, p.proname::text AS name,
            -- All that makes a function, but for where in its statement each word stood.
            regexp_replace(
                (to_jsonb(p) - ARRAY['oid', 'proname', 'proacl']::text[])::text || COALESCE(a.definition, ''::text),
                ':(stmt_)?(location|len) -?\d+'::text, ''::text, 'g'::text
            ) AS definition
        FROM pg_catalog.pg_proc AS p
        LEFT JOIN LATERAL (
            SELECT (to_jsonb(a) - 'aggfnoid'::text)::text AS definition
            FROM pg_catalog.pg_aggregate AS a
            WHERE a.aggfnoid::oid = p.oid
        ) AS a ON true
        WHERE p.oid = p_function::oid OR starts_with(p.proname::text, stem)
    )
    SELECT k.name INTO kept_as
    FROM candidates AS c
    JOIN candidates AS k ON k.definition = c.definition AND k.oid <> c.oid
    WHERE c.oid = p_function::oid
    LIMIT 1;
    IF kept_as IS NOT NULL THEN
        BEGIN
            EXECUTE pg_catalog.format('DROP ROUTINE %s', signature);
            RAISE WARNING 'a function % existed that chat-stats did not create: it is dropped, as % is the same',
                signature, kept_as;
            RETURN;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;  -- kept as well, for what uses it
        END;
    END IF;
    kept_as := stem || p_function::oid::text;
    EXECUTE pg_catalog.format('ALTER ROUTINE %s RENAME TO %I', signature, kept_as);
    RAISE WARNING 'a function % existed that chat-stats did not create: it is kept as %', signature, kept_as;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'a function % is in the way that another role created', signature
        USING ERRCODE = 'insufficient_privilege',
              HINT = pg_catalog.format('Its owner can drop it: DROP ROUTINE %s', signature);
END
$function$;

-- Makes way for one of our functions, so that its name has one definition and no call is ambiguous.
--
-- One that chat-stats did not create is set aside. One of ours that was created when the ids had other types (int
-- that became bigint, say) is renamed, because CREATE OR REPLACE cannot change the type of a parameter or of a
-- column; the new one takes over its rights before it is dropped.
CREATE OR REPLACE FUNCTION chat_stats_claim_function(p_name text)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    existing record;
BEGIN
    FOR existing IN
        SELECT p.oid::regprocedure AS function, obj_description(p.oid, 'pg_proc'::name) AS note
        FROM pg_catalog.pg_proc AS p
        WHERE p.proname = p_name::name AND p.pronamespace = quote_ident(current_schema()::text)::regnamespace::oid
    LOOP
        IF COALESCE(existing.note, ''::text) NOT LIKE 'chat-stats;%'::text THEN
            PERFORM chat_stats_set_aside(existing.function);
        ELSIF existing.note <> chat_stats_function_note() THEN
            EXECUTE pg_catalog.format(
                'ALTER FUNCTION %s RENAME TO %I',
                existing.function, left(p_name, 40) || '_former_'::text || existing.function::oid::text
            );
        END IF;
    END LOOP;
END
$function$;

-- Marks a function as ours and closes it to all but its owner and those who were granted it; sets aside what else
-- has its name.
CREATE OR REPLACE FUNCTION chat_stats_register_function(p_function regprocedure)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    ours record;
    other record;
    granted text;
BEGIN
    SELECT p.proname::text AS name, p.pronamespace AS schema INTO ours
    FROM pg_catalog.pg_proc AS p WHERE p.oid = p_function::oid;
    FOR other IN
        SELECT p.oid::regprocedure AS function
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = ours.schema AND p.proname = ours.name::name AND p.oid <> p_function::oid
    LOOP
        PERFORM chat_stats_set_aside(other.function);
    END LOOP;
    FOR other IN
        SELECT p.oid::regprocedure AS function, p.proacl AS acl
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = ours.schema AND starts_with(p.proname::text, left(ours.name, 40) || '_former_'::text)
          AND obj_description(p.oid, 'pg_proc'::name) LIKE 'chat-stats;%'::text
    LOOP
        FOR granted IN
            SELECT pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION %s TO %I%s',
                p_function, r.rolname, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION'::text END
            )
            FROM aclexplode(other.acl) AS a
            JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
        LOOP
            EXECUTE granted;
        END LOOP;
        EXECUTE pg_catalog.format('DROP FUNCTION %s', other.function);
    END LOOP;
    EXECUTE pg_catalog.format('COMMENT ON FUNCTION %s IS %L', p_function, chat_stats_function_note());
    PERFORM chat_stats_close_function(p_function);
END
$function$;

-- Pins what a function must not take from its caller: where the tables are, the time zone in which a
-- timestamp without one is read, and that a time range is planned with its own bounds. Registers it.
--
-- p_function is the name of one that claimed it, and of others the name with the types of the parameters.
CREATE OR REPLACE FUNCTION chat_stats_adopt_function(p_function text)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    signature regprocedure;
    schemas text := (
        SELECT string_agg(
            quote_ident(n.nspname::text), ', '::text ORDER BY array_position(current_schemas(false), n.nspname)
        )
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = current_schema()
           OR n.oid IN (
               SELECT c.relnamespace FROM pg_catalog.pg_class AS c
               WHERE c.oid IN (
                   to_regclass('providers'::text)::oid, to_regclass('models'::text)::oid,
                   to_regclass('chat_completion_requests'::text)::oid
               )
           )
    );
BEGIN
    IF p_function LIKE '%(%'::text THEN
        signature := p_function::regprocedure;
    ELSE
        SELECT p.oid::regprocedure INTO STRICT signature
        FROM pg_catalog.pg_proc AS p
        WHERE p.proname = p_function::name
          AND p.pronamespace = quote_ident(current_schema()::text)::regnamespace::oid;
    END IF;
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SET search_path = %s, pg_temp', signature, schemas);
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SET timezone = %L', signature, 'UTC'::text);
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SET plan_cache_mode = force_custom_plan', signature);
    PERFORM chat_stats_register_function(signature);
END
$function$;
