"""Requests that a statement cannot read in time."""


def slow_requests(pattern: str, *, otherwise: str = "true", delay: str = "PERFORM pg_sleep(60)") -> str:
    """Return the statements that put a view in front of the requests.

    A statement whose text matches `pattern` never gets through it. Others see the rows of `otherwise`.
    """
    return f"""
        ALTER TABLE chat_completion_requests RENAME TO stored_requests;
        CREATE FUNCTION get_through() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            IF current_query() ~ '{pattern}' THEN
                {delay};
            END IF;
            RETURN true;
        END $$;
        CREATE VIEW chat_completion_requests AS
        SELECT * FROM stored_requests WHERE get_through() AND {otherwise};
    """


#: In place of a delay: what Postgres does when the time is up, at once.
CANCELED = "RAISE EXCEPTION 'canceled' USING ERRCODE = 'query_canceled'"
