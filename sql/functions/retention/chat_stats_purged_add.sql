{% import 'macros/rollups.sql.j2' as kept %}
-- Adds to what is kept of purged requests, in one statement. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that ends with `changes`, as chat_stats_rollup_add() takes it. The
-- caller holds the lock of the rollup's upkeep.
SELECT chat_stats_install('chat_stats_purged_add', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purged_add(p_changes text, p_counted text)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    counted bigint;
BEGIN
    EXECUTE 'WITH ' || p_changes || $statement$, cells AS MATERIALIZED (
        SELECT
            c.model_id, stats_schema.chat_stats_day(c.bucket) AS day, stats_schema.chat_stats_slot(c.bucket) AS slot,
            c.bin,
            {{ each('sum(c.{name}){cast} AS {name}', 12) }},
            sum(c.n)::bigint AS n
        FROM changes AS c
        GROUP BY c.model_id, c.bucket, c.bin
    ), days AS (
        SELECT
            s.model_id, s.day,
            array_agg(s.slot) AS slots,
            {{ each('array_agg(s.{name}) AS slot_{name}', 12) }}
        FROM (
            SELECT
                model_id, day, slot,
                {{ each('sum({name}){cast} AS {name}', 16) }}
            FROM cells
            GROUP BY model_id, day, slot
        ) AS s
        GROUP BY s.model_id, s.day
    ), day_bins AS (
        SELECT model_id, day, array_agg(slot) AS bin_slots, array_agg(bin) AS bins, array_agg(n) AS counts
        FROM cells
        WHERE n <> 0
        GROUP BY model_id, day
    ), kept AS (
        INSERT INTO stats_schema.chat_stats_purged AS t (
            model_id, day,
            slots, {{ each('slot_{name}') }},
            bin_slots, bins, counts
        )
        SELECT
            s.*, COALESCE(b.bin_slots, '{}'), COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM days AS s
        LEFT JOIN day_bins AS b USING (model_id, day)
        ON CONFLICT (model_id, day) DO UPDATE SET
            {{ kept.slots_added() | indent(12) }}
    )
    SELECT count(*) FROM $statement$ || quote_ident(p_counted)
    INTO counted;
    RETURN counted;
END
$function$;
$install$);
