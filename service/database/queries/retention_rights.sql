-- What our role lacks of the rights that purging needs.
SELECT
    quote_ident(current_user) AS role,
    ARRAY(
        SELECT name FROM unnest(ARRAY['SELECT', 'DELETE']) AS n (name)
        WHERE NOT has_table_privilege('gateway_schema.chat_completion_requests'::regclass, name)
    ) AS lacking
