-- What our role lacks of the rights that switching on needs (SELECT is for the backfill), and whether it is a table
-- at all: others cannot have these triggers.
SELECT
    quote_ident(current_user) AS role,
    (SELECT relkind IN ('r', 'p') FROM pg_class
    WHERE oid = 'gateway_schema.chat_completion_requests'::regclass) AS is_table,
    ARRAY(
        SELECT name FROM unnest(ARRAY['SELECT', 'TRIGGER']) AS n (name)
        WHERE NOT has_table_privilege('gateway_schema.chat_completion_requests'::regclass, name)
    ) AS lacking
