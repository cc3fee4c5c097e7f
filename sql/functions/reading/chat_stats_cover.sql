-- The pieces of the rollup and of the requests that [p_start, p_end) is made of; at least one of both is given. Each
-- is added, or with the sign -1 taken away again: of a month, a day that lies in the range for the most part, the
-- whole counts, less what is outside, since that is less to read. (The part that lies in the future counts as
-- nothing: there is hardly ever anything in it.) By tier:
--
--   months, days   those that begin in [first_day, end_day); no end_day: no limit
--   slots          those of the day first_day, [first_slot, end_slot)
--   deltas         of buckets in [starts, ends); no ends: no limit
--   requests       created in [starts, ends): the ragged edges, less than a bucket each (chat_stats_edges())
--
-- The columns that a tier does not name mean nothing.
SELECT chat_stats_install('chat_stats_cover', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_cover(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    tier text,
    sign integer,
    first_day date,
    end_day date,
    first_slot smallint,
    end_slot smallint,
    starts timestamptz,
    ends timestamptz
)
LANGUAGE plpgsql
STABLE
ROWS 8
AS $function$
DECLARE
    -- The whole buckets begin and end at a day and a slot in it; then come whole days, then whole months.
    day_from date;
    day_to date;
    slot_from smallint;
    slot_to smallint;
    days_from date;
    days_to date;
    months_from date;
    months_to date;
    next_month date;
    today date := stats_schema.chat_stats_day(stats_schema.chat_stats_bucket(now()));
    -- Slots of the first and of the last day in which there may be something.
    filled_from integer;
    filled_to integer;
BEGIN
    FOR tier, sign, starts, ends IN
        SELECT e.tier, e.sign, e.starts, e.ends
        FROM stats_schema.chat_stats_edges(p_start, p_end) AS e
        ORDER BY e.tier DESC  -- the whole buckets come last
    LOOP
        IF tier = 'requests' THEN
            RETURN NEXT;
        END IF;
    END LOOP;
    IF tier IS DISTINCT FROM 'buckets' THEN
        RETURN;
    END IF;
    tier := 'deltas';
    RETURN NEXT;
    day_from := stats_schema.chat_stats_day(starts);
    slot_from := stats_schema.chat_stats_slot(starts);
    day_to := stats_schema.chat_stats_day(COALESCE(ends, 'infinity'));
    slot_to := stats_schema.chat_stats_slot(ends);
    IF ends IS NULL THEN  -- then requests of an infinite time are in the range, too
        tier := 'months';
        first_day := 'infinity';
        end_day := NULL;
        RETURN NEXT;
    END IF;

    days_from := day_from;
    days_to := day_to;
    filled_from := CASE
        WHEN day_from < today THEN 96 WHEN day_from = today THEN stats_schema.chat_stats_slot(now()) + 1 ELSE 0 END;
    filled_to := CASE
        WHEN day_to < today THEN 96 WHEN day_to = today THEN stats_schema.chat_stats_slot(now()) + 1 ELSE 0 END;
    IF slot_from > 0 AND 2 * slot_from >= filled_from THEN
        days_from := day_from + 1;
    END IF;
    IF slot_to > 0 AND 2 * slot_to > filled_to THEN
        days_to := day_to + 1;
    END IF;
    tier := 'slots';
    IF day_from = day_to AND days_from >= days_to THEN
        first_day := day_from;
        first_slot := slot_from;
        end_slot := slot_to;
        RETURN NEXT;
        RETURN;
    END IF;
    IF slot_from > 0 THEN
        first_day := day_from;
        IF days_from > day_from THEN
            first_slot := slot_from;
            end_slot := 96;
        ELSE
            sign := -1;
            first_slot := 0;
            end_slot := slot_from;
        END IF;
        RETURN NEXT;
        sign := 1;
    END IF;
    IF slot_to > 0 THEN
        first_day := day_to;
        IF days_to > day_to THEN
            sign := -1;
            first_slot := slot_to;
            end_slot := 96;
        ELSE
            first_slot := 0;
            end_slot := slot_to;
        END IF;
        RETURN NEXT;
        sign := 1;
    END IF;

    months_from := stats_schema.chat_stats_month(days_from);
    IF days_from > months_from THEN
        next_month := (months_from + interval '1 month')::date;
        IF 2 * (days_from - months_from) >= LEAST(next_month, today + 1) - months_from THEN
            months_from := next_month;
        END IF;
    END IF;
    months_to := stats_schema.chat_stats_month(days_to);
    IF days_to > months_to THEN
        next_month := (months_to + interval '1 month')::date;
        IF 2 * (days_to - months_to) > LEAST(next_month, today + 1) - months_to THEN
            months_to := next_month;
        END IF;
    END IF;
    tier := 'days';
    IF months_from >= months_to THEN
        first_day := days_from;
        end_day := days_to;
        RETURN NEXT;
    ELSE
        FOR sign, first_day, end_day IN VALUES
            (-1, months_from, days_from), (1, days_from, months_from),
            (-1, days_to, months_to), (1, months_to, days_to)
        LOOP
            IF first_day < end_day THEN
                RETURN NEXT;
            END IF;
        END LOOP;
        tier := 'months';
        sign := 1;
        first_day := months_from;
        end_day := LEAST(months_to, stats_schema.chat_stats_day(NULL::timestamptz));
        RETURN NEXT;
    END IF;
END
$function$;
$install$);
