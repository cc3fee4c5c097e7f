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
        SELECT p.oid, p.oid::regprocedure AS signature, obj_description(p.oid, 'pg_proc') AS note
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
