-- The first moment of which there are requests, or numbers of requests that were purged; NULL when there are none.
CREATE OR REPLACE FUNCTION chat_stats_first_moment()
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
DECLARE
    first_moment timestamptz := (
        SELECT r.created_at FROM chat_completion_requests AS r
        WHERE r.created_at > '-infinity' AND r.created_at < 'infinity'
        ORDER BY r.created_at
        LIMIT 1
    );
BEGIN
    IF chat_stats_has_purged() THEN
        RETURN LEAST(first_moment, (
            SELECT min(chat_stats_bucket_at(t.day, s.slot))
            FROM chat_stats_purged AS t CROSS JOIN LATERAL unnest(t.slots) AS s (slot)
            WHERE t.day = (
                SELECT min(f.day) FROM chat_stats_purged AS f WHERE f.day > '-infinity' AND cardinality(f.slots) > 0
            )
        ));
    END IF;
    RETURN first_moment;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_first_moment()');
