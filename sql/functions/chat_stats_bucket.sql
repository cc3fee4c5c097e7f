-- The start of the 15-minute UTC bucket of a moment; an infinite one is a bucket of its own.
CREATE OR REPLACE FUNCTION chat_stats_bucket(p_moment timestamptz)
RETURNS timestamptz
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT CASE
        WHEN p_moment >= '1900-01-01T00:00:00Z'::timestamptz AND p_moment < '2200-01-01T00:00:00Z'::timestamptz
            THEN date_bin('15 minutes', p_moment, '2000-01-01T00:00:00Z'::timestamptz)
        WHEN isfinite(p_moment)  -- so far off that date_bin() would overflow
            THEN to_timestamp(floor(extract(epoch FROM p_moment) / 900)::double precision * 900)
        ELSE p_moment
    END
$function$;
