-- The first moment of which there are requests, or numbers of requests that were purged; NULL when there are none.
SELECT chat_stats_install('chat_stats_first_moment', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_first_moment()
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    first_moment timestamptz := (
        SELECT r.created_at FROM gateway_schema.chat_completion_requests AS r
        WHERE r.created_at > '-infinity' AND r.created_at < 'infinity'
        ORDER BY r.created_at
        LIMIT 1
    );
BEGIN
    IF stats_schema.chat_stats_has_purged() THEN
        RETURN LEAST(
            first_moment,
            (
                SELECT min(stats_schema.chat_stats_bucket_at(t.day, s.slot))
                FROM stats_schema.{{ rollup('total').purged }} AS t CROSS JOIN LATERAL unnest(t.slots) AS s (slot)
                WHERE t.day = (
                    SELECT min(f.day) FROM stats_schema.{{ rollup('total').purged }} AS f
                    WHERE f.day > '-infinity' AND cardinality(f.slots) > 0
                )
            ),
            (SELECT min(d.bucket) FROM stats_schema.chat_stats_kept AS d WHERE d.bucket > '-infinity'),
            (SELECT min(d.bucket) FROM stats_schema.chat_stats_kept_on_shards() AS d WHERE d.bucket > '-infinity')
        );
    END IF;
    RETURN first_moment;
END
$function$;
$install$);
