-- How the files in sql/functions/ put their functions in place: claim the name, create, adopt.

-- The comment by which we know our own functions: it names the id types that they were created for.
CREATE OR REPLACE FUNCTION chat_stats_function_note()
RETURNS text
LANGUAGE sql
STABLE
AS $function$
    SELECT 'chat-stats; ' || string_agg(
        format('%s.id %s', a.attrelid::regclass, format_type(a.atttypid, a.atttypmod)), ', '
        ORDER BY a.attrelid = to_regclass('models')
    )
    FROM pg_attribute AS a
    WHERE a.attname = 'id' AND a.attrelid IN (to_regclass('providers'), to_regclass('models'))
$function$;

-- Makes way for one of our functions, so that its name has one definition and no call is ambiguous.
--
-- A function of that name that chat-stats did not create is kept under another name, and a warning says
-- so. One of ours that was created when the ids had other types (int that became bigint, say) is dropped,
-- because CREATE OR REPLACE cannot change the type of a parameter or of a column.
CREATE OR REPLACE FUNCTION chat_stats_claim_function(p_name text)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    existing record;
    kept_as text;
BEGIN
    FOR existing IN
        -- As text: its name is about to change.
        SELECT p.oid, p.oid::regprocedure::text AS signature, obj_description(p.oid, 'pg_proc') AS note
        FROM pg_proc AS p
        WHERE p.proname = p_name AND p.pronamespace = quote_ident(current_schema())::regnamespace
    LOOP
        IF COALESCE(existing.note, '') NOT LIKE 'chat-stats;%' THEN
            kept_as := left(p_name, 40) || '_replaced_' || existing.oid;
            EXECUTE format('ALTER ROUTINE %s RENAME TO %I', existing.signature, kept_as);
            RAISE WARNING 'a function % existed that chat-stats did not create: it is kept as %',
                existing.signature, kept_as;
        ELSIF existing.note <> chat_stats_function_note() THEN
            EXECUTE format('DROP FUNCTION %s', existing.signature);
        END IF;
    END LOOP;
END
$function$;

-- Pins what a function must not take from its caller: where the tables are, the time zone in which a
-- timestamp without one is read, and that a time range is planned with its own bounds.
CREATE OR REPLACE FUNCTION chat_stats_adopt_function(p_name text)
RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    signature regprocedure := (
        SELECT p.oid FROM pg_proc AS p
        WHERE p.proname = p_name AND p.pronamespace = quote_ident(current_schema())::regnamespace
    );
    schemas text := (
        SELECT string_agg(quote_ident(n.nspname), ', ' ORDER BY array_position(current_schemas(false), n.nspname))
        FROM pg_namespace AS n
        WHERE n.nspname = current_schema()
           OR n.oid IN (
               SELECT c.relnamespace FROM pg_class AS c
               WHERE c.oid IN (
                   to_regclass('providers'), to_regclass('models'), to_regclass('chat_completion_requests')
               )
           )
    );
BEGIN
    EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', signature, schemas);
    EXECUTE format('ALTER FUNCTION %s SET timezone = %L', signature, 'UTC');
    EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_custom_plan', signature);
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', signature, chat_stats_function_note());
END
$function$;
