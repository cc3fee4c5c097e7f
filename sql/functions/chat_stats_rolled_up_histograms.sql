-- The histograms of chat_stats_scan_histograms(), from the rollup: whole months, the slots of days, the deltas
-- that are not folded yet, and from the requests themselves only the ragged edges of the range. (Months are of
-- no use to a time series: p_interval needs p_start and p_end.)
SELECT chat_stats_claim_function('chat_stats_rolled_up_histograms');

CREATE OR REPLACE FUNCTION chat_stats_rolled_up_histograms(
    p_interval text, p_timezone text, p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text,
    p_merged boolean DEFAULT false
)
RETURNS TABLE (
    interval_start timestamptz,
    model_id chat_stats_deltas.model_id%TYPE,
    bin smallint,
    n bigint
)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    -- The whole buckets, days and months, as in chat_stats_rolled_up().
    first_bucket timestamptz := CASE
        WHEN p_start > '294276-12-31T23:45:00Z'::timestamptz THEN 'infinity'
        WHEN p_start > chat_stats_bucket(p_start) THEN chat_stats_bucket(p_start) + interval '15 minutes'
        ELSE COALESCE(p_start, '-infinity')
    END;
    end_bucket timestamptz := COALESCE(chat_stats_bucket(p_end), 'infinity');
    first_day date := CASE WHEN chat_stats_slot(first_bucket) > 0
        THEN chat_stats_day(first_bucket) + 1 ELSE chat_stats_day(first_bucket) END;
    end_day date := chat_stats_day(end_bucket);
    first_month date := CASE WHEN first_day > chat_stats_month(first_day)
        THEN (chat_stats_month(first_day) + interval '1 month')::date ELSE first_day END;
    end_month date := CASE WHEN p_interval IS NULL THEN chat_stats_month(end_day) ELSE first_month END;
    all_time boolean := p_interval IS NULL AND p_start IS NULL AND p_end IS NULL;
    all_models boolean := p_provider_id IS NULL AND p_model_id IS NULL;
BEGIN
    IF p_start >= p_end THEN
        RETURN;
    END IF;
    IF first_bucket >= end_bucket AND p_end IS NOT NULL THEN  -- no whole bucket lies in the range
        RETURN QUERY
        SELECT * FROM chat_stats_scan_histograms(
            p_interval, p_timezone, p_start, p_end, p_provider_id, p_model_id, p_merged
        );
        RETURN;
    END IF;

    RETURN QUERY
    WITH wanted AS (  -- used as an array: a condition on it then finds the index, also where it follows an OR
        SELECT m.id AS model_id
        FROM models AS m
        WHERE (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
    ), days AS MATERIALIZED (
        -- The interval is that of the day where the day lies in one as a whole; of the others each slot has its own.
        SELECT
            t.model_id, t.day, t.bin_slots, t.bins, t.counts,
            CASE WHEN chat_stats_interval_start(p_interval, t.day::timestamp AT TIME ZONE 'UTC', p_timezone)
                    = chat_stats_interval_start(
                        p_interval, (t.day + 1)::timestamp AT TIME ZONE 'UTC' - interval '15 minutes', p_timezone
                    )
                 THEN chat_stats_interval_start(p_interval, t.day::timestamp AT TIME ZONE 'UTC', p_timezone)
            END AS interval_start
        FROM chat_stats_rollup_slots AS t
        WHERE NOT all_time
          AND t.day >= chat_stats_day(first_bucket) AND t.day <= end_day AND t.day <> chat_stats_day(NULL)
          AND (first_month >= end_month OR t.day < first_month OR t.day >= end_month)
          AND (all_models OR t.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
    ), parts (interval_start, model_id, bin, n) AS (
        SELECT NULL::timestamptz, l.model_id, h.bin, h.n
        FROM chat_stats_rollup_lifetime AS l
        CROSS JOIN LATERAL unnest(l.bins, l.counts) AS h (bin, n)
        WHERE all_time AND (all_models OR l.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT NULL, t.model_id, h.bin, h.n
        FROM chat_stats_rollup_months AS t
        CROSS JOIN LATERAL unnest(t.bins, t.counts) AS h (bin, n)
        WHERE NOT all_time AND p_interval IS NULL
          AND t.month >= first_month AND (t.month < end_month OR p_end IS NULL AND t.month = 'infinity')
          AND t.month <> chat_stats_day(NULL)
          AND (all_models OR t.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            CASE WHEN p_interval IS NOT NULL THEN COALESCE(
                t.interval_start,
                chat_stats_interval_start(p_interval, chat_stats_bucket_at(t.day, h.slot), p_timezone)
            ) END,
            t.model_id, h.bin, h.n
        FROM days AS t
        CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS h (slot, bin, n)
        WHERE t.day >= first_day AND t.day < end_day
           OR isfinite(t.day)
              AND chat_stats_bucket_at(t.day, h.slot) >= first_bucket
              AND chat_stats_bucket_at(t.day, h.slot) < end_bucket
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, d.bucket, p_timezone), d.model_id,
            chat_stats_bin(CASE WHEN d.timed > 0 THEN d.time_ms ELSE -d.time_ms END), d.timed
        FROM chat_stats_deltas AS d
        WHERE d.times IS NULL AND d.timed <> 0
          AND (all_time OR d.bucket >= first_bucket AND (d.bucket < end_bucket OR p_end IS NULL))
          AND (all_models OR d.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT
            chat_stats_interval_start(p_interval, d.bucket, p_timezone), d.model_id,
            chat_stats_bin(u.time_ms), sign(d.timed)::bigint
        FROM chat_stats_deltas AS d
        CROSS JOIN LATERAL unnest(d.times) AS u (time_ms)
        WHERE d.times IS NOT NULL
          AND (all_time OR d.bucket >= first_bucket AND (d.bucket < end_bucket OR p_end IS NULL))
          AND (all_models OR d.model_id = ANY (ARRAY(SELECT w.model_id FROM wanted AS w)))
        UNION ALL
        SELECT e.*
        FROM chat_stats_scan_histograms(p_interval, p_timezone, p_start, first_bucket, p_provider_id, p_model_id) AS e
        WHERE p_start < first_bucket
        UNION ALL
        SELECT e.*
        FROM chat_stats_scan_histograms(p_interval, p_timezone, end_bucket, p_end, p_provider_id, p_model_id) AS e
        WHERE end_bucket < p_end
    )
    SELECT p.interval_start, CASE WHEN NOT p_merged THEN p.model_id END, p.bin, sum(p.n)::bigint
    FROM parts AS p
    WHERE NOT p_merged OR p.model_id IN (
        SELECT m.id FROM models AS m JOIN providers AS o ON o.id = m.provider_id
    )
    GROUP BY 1, 2, 3
    HAVING sum(p.n) <> 0;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_rolled_up_histograms');
