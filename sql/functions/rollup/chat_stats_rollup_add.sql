{% import 'macros/rollups.sql.j2' as kept %}
-- Adds changes to slots, days, months and lifetime, in one statement: each reader sees each of them once, before
-- or after. Returns the number of rows in p_counted.
--
-- p_changes is the beginning of a WITH list that has `slot_sums` (the changes of a model's sums in a slot of a day:
-- one row for each, none that is all zeros) and `cells` (those of the histogram: one row for each model, day, slot
-- and bin, with the change `n` of the count, not 0). A text, so that the sources of changes (deltas that are moved,
-- differences that are repaired) share what becomes of them, and each is planned for its own size.
--
-- The caller holds the lock that keeps two of these apart: see chat_stats_fold() and chat_stats_rollup_repair().
SELECT chat_stats_install('chat_stats_rollup_add', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_add(p_changes text, p_counted text)
RETURNS bigint
LANGUAGE plpgsql
AS $function$
DECLARE
    counted bigint;
BEGIN
    EXECUTE 'WITH ' || p_changes || $statement$, slot_arrays AS (
        -- The arrays of a row are parallel, since one pass makes them from the same rows; in the order of the slots,
        -- since the rows come in it.
        SELECT
            model_id, day,
            {{ each('sum({name}){cast} AS {name}', 12) }},
            array_agg(slot) AS slots,
            {{ each('array_agg({name}) AS slot_{name}', 12) }}
        FROM (SELECT * FROM slot_sums ORDER BY model_id, day, slot) AS s
        GROUP BY model_id, day
    ), bin_arrays AS (
        SELECT model_id, day, array_agg(slot) AS bin_slots, array_agg(bin) AS bins, array_agg(n) AS counts
        FROM (SELECT * FROM cells ORDER BY model_id, day, slot) AS c
        GROUP BY model_id, day
    ), day_changes AS MATERIALIZED (
        SELECT
            model_id, day,
            {{ each('COALESCE(s.{name}, 0) AS {name}', 12) }},
            COALESCE(s.slots, '{}') AS slots,
            {{ each("COALESCE(s.slot_{name}, '{}') AS slot_{name}", 12) }},
            COALESCE(b.bin_slots, '{}') AS bin_slots, COALESCE(b.bins, '{}') AS bins,
            COALESCE(b.counts, '{}') AS counts
        FROM slot_arrays AS s
        FULL JOIN bin_arrays AS b USING (model_id, day)
    ), months_sums AS MATERIALIZED (
        SELECT
            model_id, stats_schema.chat_stats_month(day) AS month,
            {{ each('sum({name}){cast} AS {name}', 12) }}
        FROM day_changes
        GROUP BY 1, 2
    ), months_cells AS MATERIALIZED (
        SELECT model_id, stats_schema.chat_stats_month(day) AS month, bin, sum(n)::bigint AS n
        FROM cells
        GROUP BY 1, 2, 3
        HAVING sum(n) <> 0
    ), months_bins AS (
        SELECT model_id, month, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM months_cells
        GROUP BY model_id, month
    ), lifetime_sums AS (
        SELECT
            model_id,
            {{ each('sum({name}){cast} AS {name}', 12) }}
        FROM months_sums
        GROUP BY model_id
    ), lifetime_bins AS (
        SELECT model_id, array_agg(bin ORDER BY bin) AS bins, array_agg(n ORDER BY bin) AS counts
        FROM (
            SELECT model_id, bin, sum(n)::bigint AS n FROM months_cells GROUP BY 1, 2 HAVING sum(n) <> 0
        ) AS b
        GROUP BY model_id
    ), slots AS (
        INSERT INTO stats_schema.{{ rollup('slots').table }} AS t (
            model_id, day,
            slots, {{ each('slot_{name}') }},
            bin_slots, bins, counts
        )
        SELECT
            model_id, day,
            slots, {{ each('slot_{name}') }},
            bin_slots, bins, counts
        FROM day_changes
        ON CONFLICT (model_id, day) DO UPDATE SET
            {{ kept.slots_added() | indent(12) }}
    ), days AS (
        INSERT INTO stats_schema.{{ rollup('days').table }} AS t (
            model_id, day, {{ each('{name}') }}
        )
        SELECT model_id, day, {{ each('{name}') }}
        FROM day_changes
        ON CONFLICT (model_id, day) DO UPDATE SET
            {{ each('{name} = t.{name} + excluded.{name}', 12) }}
{% for tier in rollups if tier.histogram %}
    ), {{ tier.name }} AS (
        INSERT INTO stats_schema.{{ tier.table }} AS t (
            {{ kept.key(tier) }}, {{ kept.columns(tier) }}
        )
        SELECT
            {{ kept.key(tier) }}, {{ each('s.{name}') }},
            COALESCE(b.bins, '{}'), COALESCE(b.counts, '{}')
        FROM {{ tier.name }}_sums AS s
        LEFT JOIN {{ tier.name }}_bins AS b USING ({{ kept.key(tier) }})
        ORDER BY {{ kept.key(tier) }}  -- all that add to the same rows do so in the same order: no deadlock
        ON CONFLICT ({{ kept.key(tier) }}) DO UPDATE SET
            {{ each('{name} = t.{name} + excluded.{name}', 12) }},
            (bins, counts) = (
                SELECT
                    COALESCE(array_agg(h.bin ORDER BY h.bin), '{}'),
                    COALESCE(array_agg(h.n ORDER BY h.bin), '{}')
                FROM (
                    SELECT b.bin, sum(b.n)::bigint AS n
                    FROM (
                        SELECT * FROM unnest(t.bins, t.counts)
                        UNION ALL
                        SELECT * FROM unnest(excluded.bins, excluded.counts)
                    ) AS b (bin, n)
                    GROUP BY b.bin
                    HAVING sum(b.n) <> 0
                ) AS h
            )
{% endfor %}
    )
    SELECT count(*) FROM $statement$ || quote_ident(p_counted)
    INTO counted;
    RETURN counted;
END
$function$;
$install$);
