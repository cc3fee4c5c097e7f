-- The first moment of which there are requests; NULL when there are none.
CREATE OR REPLACE FUNCTION chat_stats_first_moment()
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN (
        SELECT r.created_at FROM chat_completion_requests AS r
        WHERE r.created_at > '-infinity' AND r.created_at < 'infinity'
        ORDER BY r.created_at
        LIMIT 1
    );
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_first_moment');
