{% set optional = columns | selectattr('optional') | sort(attribute='name', reverse=true) %}  {#- longer names first #}
-- How the files in sql/functions/ put their functions in place: claim the name, where the types of the parameters or
-- of the rows follow from the gateway's, then install.
--
-- A role that may create objects in a schema of the search_path can plant an operator or a function that fits a call
-- better than the one in pg_catalog, and it would run with our rights. So our functions search pg_catalog alone. What
-- lies elsewhere they name with its schema, and calls of our own functions have arguments of exactly the declared
-- types. The first two functions in this file run under the search_path of the session: until they have left it, they
-- name everything with its schema, too.

-- Whether sums can be made of a type: whole, exact and floating-point numbers, and domains over them.
CREATE OR REPLACE FUNCTION chat_stats_is_number(p_type oid)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    base oid := p_type;
BEGIN
    WHILE base <> 0 LOOP
        p_type := base;
        base := (SELECT t.typbasetype FROM pg_type AS t WHERE t.oid = p_type);
    END LOOP;
    RETURN p_type IN (
        'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float4'::regtype, 'float8'::regtype
    );
END
$function$;

-- Puts schemas in place of the two that our files name: stats_schema, that of our own tables and functions, which is
-- the first of the search_path; and gateway_schema, in which the search_path finds the table that follows. And says
-- where an optional column such as readable.cost_usd is: in the table, or where its type is no number, in what stands in
-- for a missing one ("absent"). A column such as addable.cost_usd is that column, as numeric where it is real.
CREATE OR REPLACE FUNCTION chat_stats_with_schemas(p_text text)
RETURNS text
LANGUAGE plpgsql
AS $function$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    stats text := pg_catalog.current_schema();
    providers oid := pg_catalog.to_regclass('providers');
    models oid := pg_catalog.to_regclass('models');
    requests oid := pg_catalog.to_regclass('chat_completion_requests');
    filled text;
    named record;
    real_columns name[];
{% for column in optional %}
    type_of_{{ column.name }} oid;
{% endfor %}
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    filled := p_text;
    FOR named IN
        SELECT stats AS schema, 'stats_schema.' AS placeholder, '' AS name
        UNION ALL
        SELECT n.nspname, 'gateway_schema.' || c.relname, c.relname
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid IN (providers, models, requests)
    LOOP
        -- The names stand within literals, too, and in texts for format().
        IF named.schema ~ '[''\\$%]' THEN
            RAISE EXCEPTION 'the schema % has one of the characters '' \ $ %% in its name, which chat-stats cannot use',
                quote_ident(named.schema)
                USING ERRCODE = 'invalid_schema_name', HINT = 'Rename the schema, or choose another one.';
        END IF;
        filled := replace(filled, named.placeholder, quote_ident(named.schema) || '.' || named.name);
    END LOOP;
{% for column in optional %}
    type_of_{{ column.name }} := (
        SELECT a.atttypid FROM pg_attribute AS a
        WHERE a.attrelid = requests AND a.attname = '{{ column.name }}' AND NOT a.attisdropped
    );
{% endfor %}
    real_columns := ARRAY(
        SELECT a.attname
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = requests AND NOT a.attisdropped
          AND COALESCE(NULLIF(t.typbasetype, 0::oid), t.oid) = 'float4'::regtype
    );
{% for column in columns | sort(attribute='name', reverse=true) %}
    filled := replace(
        filled, 'addable.{{ column.name }}'::text,
        '{{ 'readable.' if column.optional }}{{ column.name }}'::text
            || CASE WHEN '{{ column.name }}'::name = ANY (real_columns) THEN '::numeric' ELSE '' END::text
    );
{% endfor %}
    PERFORM pg_catalog.set_config('search_path', path, true);
{% for column in optional %}
    filled := pg_catalog.replace(
        filled, 'readable.{{ column.name }}'::pg_catalog.text,
        CASE WHEN chat_stats_is_number(type_of_{{ column.name }}) IS FALSE THEN 'absent.{{ column.name }}'
             ELSE '{{ column.name }}' END::pg_catalog.text
    );
{% endfor %}
    RETURN filled;
END
$function$;

-- Executes statements in which the schemas are put. All that they name otherwise is searched in pg_catalog alone.
CREATE OR REPLACE FUNCTION chat_stats_run(p_statements text)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    statements text := chat_stats_with_schemas(p_statements);
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE statements;
    PERFORM pg_catalog.set_config('search_path', path, true);
END
$function$;

-- Creates the function p_name by its definition, and adopts it: in one statement, so that no session ever sees it
-- half done.
CREATE OR REPLACE FUNCTION chat_stats_install(p_name text, p_definition text)
RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM chat_stats_run(p_definition);
    PERFORM chat_stats_adopt_function(p_name);
END
$function$;

SELECT chat_stats_run($run$
-- The comment by which we know our own functions: it names the id types and the measures that they were created for.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_function_note()
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN (
        SELECT 'chat-stats; ' || string_agg(
            format('%I.%I %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)), ', '
            ORDER BY c.relname, a.attname
        )
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE a.attname = 'id' AND a.attrelid IN (
                to_regclass('gateway_schema.providers'), to_regclass('gateway_schema.models')
            )
           OR a.attname = 'model_id' AND a.attrelid = to_regclass('gateway_schema.chat_completion_requests')
    ) || '; {{ each('{name}') }}';
END
$function$;

-- Keeps a function that chat-stats did not create under another name, or drops it where the same is kept already:
-- a gateway's migration that runs again creates it again each time.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_set_aside(p_function regprocedure)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- As text: the name is about to change.
    signature text := p_function::text;
    function_name text := (SELECT p.proname::text FROM pg_proc AS p WHERE p.oid = p_function::oid);
    stem text := left(function_name, 40) || '_replaced_';
    kept_as text;
BEGIN
    WITH candidates AS (
        SELECT
            p.oid, p.proname::text AS name,
            -- All that makes a function, but for where in its statement each word stood.
            regexp_replace(
                (to_jsonb(p) - ARRAY['oid', 'proname', 'proacl']::text[])::text || COALESCE(a.definition, ''),
                ':(stmt_)?(location|len) -?\d+', '', 'g'
            ) AS definition
        FROM pg_proc AS p
        LEFT JOIN LATERAL (
            SELECT (to_jsonb(a) - 'aggfnoid')::text AS definition
            FROM pg_aggregate AS a
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
            EXECUTE format('DROP ROUTINE %s', signature);
            RAISE WARNING 'a function % existed that chat-stats did not create: it is dropped, as % is the same',
                signature, kept_as;
            RETURN;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;  -- kept as well, for what uses it
        END;
    END IF;
    kept_as := stem || p_function::oid::text;
    EXECUTE format('ALTER ROUTINE %s RENAME TO %I', signature, kept_as);
    RAISE WARNING 'a function % existed that chat-stats did not create: it is kept as %', signature, kept_as;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'a function % is in the way that another role created', signature
        USING ERRCODE = 'insufficient_privilege',
              HINT = format('Its owner can drop it: DROP ROUTINE %s', signature);
END
$function$;

-- Makes way for one of our functions, so that its name has one definition and no call is ambiguous.
--
-- One that chat-stats did not create is set aside. One of ours that was created when the ids had other types (int
-- that became bigint, say), or for other measures, is renamed, because CREATE OR REPLACE cannot change the type of a
-- parameter or of a column; the new one takes over its rights before it is dropped.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_claim_function(p_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    existing record;
BEGIN
    FOR existing IN
        SELECT p.oid::regprocedure AS function, obj_description(p.oid, 'pg_proc'::name) AS note
        FROM pg_proc AS p
        WHERE p.proname = p_name::name AND p.pronamespace::regnamespace || '.' = 'stats_schema.'
    LOOP
        IF COALESCE(existing.note, '') NOT LIKE 'chat-stats;%' THEN
            PERFORM stats_schema.chat_stats_set_aside(existing.function);
        ELSIF existing.note <> stats_schema.chat_stats_function_note() THEN
            EXECUTE format(
                'ALTER FUNCTION %s RENAME TO %I',
                existing.function, left(p_name, 40) || '_former_' || existing.function::oid::text
            );
        END IF;
    END LOOP;
END
$function$;

-- Whether an object in a schema belongs to a role that is neither ours nor has the rights of the owner of the schema
-- or of p_requests, the table: what it does would run with our rights.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_is_planted(p_owner oid, p_schema oid, p_requests oid)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN pg_get_userbyid(p_owner) <> current_user
        AND NOT pg_has_role(p_owner, (SELECT n.nspowner FROM pg_namespace AS n WHERE n.oid = p_schema), 'MEMBER')
        AND NOT pg_has_role(p_owner, (SELECT c.relowner FROM pg_class AS c WHERE c.oid = p_requests), 'MEMBER');
END
$function$;

-- Marks a function as ours and closes it to all but its owner and those who were granted it; sets aside what else
-- has its name.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_register_function(p_function regprocedure)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours record;
    other record;
    granted text;
BEGIN
    SELECT p.proname::text AS name, p.pronamespace AS schema INTO ours
    FROM pg_proc AS p WHERE p.oid = p_function::oid;
    FOR other IN
        SELECT p.oid::regprocedure AS function
        FROM pg_proc AS p
        WHERE p.pronamespace = ours.schema AND p.proname = ours.name::name AND p.oid <> p_function::oid
    LOOP
        PERFORM stats_schema.chat_stats_set_aside(other.function);
    END LOOP;
    FOR other IN
        SELECT p.oid::regprocedure AS function, p.proacl AS acl
        FROM pg_proc AS p
        WHERE p.pronamespace = ours.schema AND starts_with(p.proname::text, left(ours.name, 40) || '_former_')
          AND obj_description(p.oid, 'pg_proc'::name) LIKE 'chat-stats;%'
    LOOP
        FOR granted IN
            SELECT format(
                'GRANT EXECUTE ON FUNCTION %s TO %I%s',
                p_function, r.rolname, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END
            )
            FROM aclexplode(other.acl) AS a
            JOIN pg_roles AS r ON r.oid = a.grantee
        LOOP
            EXECUTE granted;
        END LOOP;
        EXECUTE format('DROP FUNCTION %s', other.function);
    END LOOP;
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', p_function, stats_schema.chat_stats_function_note());
    PERFORM stats_schema.chat_stats_close_function(p_function);
END
$function$;

-- Pins what a function must not take from its caller: where names are searched, the time zone in which a
-- timestamp without one is read, how a date becomes text, and that a time range is planned with its own bounds.
-- Registers it. Functions of their arguments alone are not pinned, since Postgres then could not put their expression in
-- place of a call; nor are triggers planned each time, which have no values to plan for: it would cost every writer a
-- third more.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_adopt_function(p_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    adopted record;
BEGIN
    SELECT
        p.oid::regprocedure AS signature, l.lanname = 'plpgsql' AND p.provolatile <> 'i' AS pinned,
        p.prorettype = 'trigger'::regtype AS is_trigger,
        p.proowner AS owner, p.pronamespace AS schema
    INTO STRICT adopted
    FROM pg_proc AS p
    JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.proname = p_name AND p.pronamespace::regnamespace || '.' = 'stats_schema.'
    ORDER BY (p.xmin = pg_current_xact_id()::xid) DESC, p.oid DESC  -- others of its name are about to be set aside
    LIMIT 1;
    -- A superuser replaces the body of a function of any owner, who then can replace it, too.
    IF stats_schema.chat_stats_is_planted(
        adopted.owner, adopted.schema, to_regclass('gateway_schema.chat_completion_requests')::oid
    ) THEN
        RAISE EXCEPTION 'the function % belongs to the role %', adopted.signature, adopted.owner::regrole
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop it, or change its owner.';
    END IF;
    IF adopted.pinned THEN
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', adopted.signature);
        EXECUTE format('ALTER FUNCTION %s SET timezone = %L', adopted.signature, 'UTC');
        IF NOT adopted.is_trigger THEN
            EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_custom_plan', adopted.signature);
            EXECUTE format('ALTER FUNCTION %s SET datestyle = %L', adopted.signature, 'ISO');
        END IF;
    END IF;
    PERFORM stats_schema.chat_stats_register_function(adopted.signature);
END
$function$;
$run$);
