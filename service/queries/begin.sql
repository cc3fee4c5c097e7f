-- Prepares a transaction; returns the time, and which of the three tables have row level security for our role.
-- $1: how long to wait for locks, in milliseconds.
--
-- A killed or frozen client must not hold its snapshot or lock: the server looks whether it is still there (where it
-- can), and ends a transaction that went idle. Statements are short ones: compiling costs more. And where row level
-- security would keep rows from us, in whatever a statement reads, that is an error.
SELECT
    now() AS now,
    (
        SELECT count(set_config(wanted.name, wanted.value, true))
        FROM (VALUES
            ('lock_timeout'::text, $1::text),
            ('idle_in_transaction_session_timeout', '60000'),
            ('jit', 'off'),
            ('client_connection_check_interval', '1000'),
            ('row_security', 'off')
        ) AS wanted (name, value)
        WHERE current_setting(wanted.name, true) IS NOT NULL
    ) AS configured,
    ARRAY(
        SELECT t.name
        FROM (VALUES ('providers'::text), ('models'), ('chat_completion_requests')) AS t (name)
        WHERE row_security_active(to_regclass(t.name)::oid)
    ) AS secured
