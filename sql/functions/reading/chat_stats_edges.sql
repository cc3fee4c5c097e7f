-- The whole buckets that stand for [p_start, p_end), in a row `buckets` if there are any, and the pieces of the requests
-- that this leaves to be added, or with the sign -1 to be taken away, in up to two rows `requests`: the requests in the
-- range and out of the whole buckets, or the other way round.
--
-- A bucket in which an edge lies counts as a whole, less its requests outside of the range, where that is less to read
-- than those inside. Time tells how much there is to read, and what lies in the future counts as nothing.
--
-- At least one of both is given; no p_end: the whole buckets have no end (NULL). What is kept of a purged bucket
-- belongs to the piece in which the bucket begins, so it counts as a whole where it begins, whatever the sign.
SELECT chat_stats_install('chat_stats_edges', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_edges(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (tier text, sign integer, starts timestamptz, ends timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 3
AS $function$
DECLARE
    -- Of the last bucket that timestamps reach there is no end: it counts by its requests.
    last_bucket CONSTANT timestamptz := '294276-12-31T23:45:00Z';
    first_bucket timestamptz := COALESCE(stats_schema.chat_stats_bucket(p_start), '-infinity');
    end_bucket timestamptz := COALESCE(stats_schema.chat_stats_bucket(p_end), 'infinity');
    ragged timestamptz[] := ARRAY[
        CASE WHEN p_start > first_bucket THEN first_bucket END, CASE WHEN p_end > end_bucket THEN end_bucket END
    ];
    begins timestamptz;
    next timestamptz;
    inside_from timestamptz;
    inside_to timestamptz;
    is_whole boolean;
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    END IF;
    tier := 'requests';
    FOR begins IN SELECT DISTINCT r.bucket FROM unnest(ragged) AS r (bucket) WHERE r.bucket IS NOT NULL LOOP
        next := CASE WHEN begins < last_bucket THEN begins + interval '15 minutes' ELSE 'infinity' END;
        inside_from := GREATEST(p_start, begins);
        inside_to := LEAST(p_end, next);
        -- (In the future, LEAST makes all of these equal: then the requests inside are read.)
        is_whole := begins < last_bucket
            AND 2 * (LEAST(inside_to, now()) - LEAST(inside_from, now())) > LEAST(next, now()) - LEAST(begins, now());
        sign := CASE WHEN is_whole THEN -1 ELSE 1 END;
        FOR starts, ends IN
            SELECT o.starts, o.ends
            FROM (VALUES
                (NOT is_whole, inside_from, inside_to), (is_whole, begins, inside_from), (is_whole, inside_to, next)
            ) AS o (is_read, starts, ends)
            WHERE o.is_read AND o.starts < o.ends
        LOOP
            RETURN NEXT;
        END LOOP;
        IF begins = ragged[1] AND NOT is_whole THEN
            first_bucket := next;
        END IF;
        IF begins = ragged[2] AND is_whole THEN
            end_bucket := next;
        END IF;
    END LOOP;
    IF first_bucket < end_bucket OR p_end IS NULL THEN
        tier := 'buckets';
        sign := 1;
        starts := first_bucket;
        ends := CASE WHEN p_end IS NOT NULL THEN end_bucket END;
        RETURN NEXT;
    END IF;
END
$function$;
$install$);
