-- The bins in which the highest of the 50th, 90th, 95th and 99th percentile by nearest rank lie, from the one with the number
-- p_lowest (1 to 4) on, of a histogram whose bins ascend and whose counts add up to p_total; NULL for those below. A bin may
-- come in several parts, one after the other. From above, since the bins below the lowest need not be looked at. A loop: for
-- a hundred bins it costs a third of what window functions do.
SELECT chat_stats_install('chat_stats_highest_percentile_bins', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_highest_percentile_bins(
    p_bins smallint[], p_counts bigint[], p_total bigint, p_lowest integer
)
RETURNS smallint[]
LANGUAGE plpgsql
IMMUTABLE
PARALLEL SAFE
AS $function$
DECLARE
    ranks bigint[] := ARRAY[
        (p_total * 50 + 99) / 100, (p_total * 90 + 99) / 100, (p_total * 95 + 99) / 100, (p_total * 99 + 99) / 100
    ];
    wanted integer := 4;
    below bigint := p_total;
    found smallint[] := ARRAY[NULL, NULL, NULL, NULL];
BEGIN
    FOR i IN REVERSE pg_catalog.cardinality(p_bins) .. 1 LOOP
        below := below - p_counts[i];
        WHILE below < ranks[wanted] LOOP
            found[wanted] := p_bins[i];
            IF wanted = p_lowest THEN
                RETURN found;
            END IF;
            wanted := wanted - 1;
        END LOOP;
    END LOOP;
    RETURN found;
END
$function$;
$install$);
