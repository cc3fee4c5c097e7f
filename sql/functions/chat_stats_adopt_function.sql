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
