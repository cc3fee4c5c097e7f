-- The histograms of chat_stats_bin() of purged requests: how many are in which bin, by model and 15-minute bucket,
-- for the buckets that begin in [p_start, p_end).
SELECT chat_stats_claim_function('chat_stats_purged_bins');

SELECT chat_stats_install('chat_stats_purged_bins', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_purged_bins(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    model_id stats_schema.chat_stats_deltas.model_id%TYPE,
    bucket timestamptz,
    bin smallint,
    n bigint
)
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
ROWS 10
AS $function$
#variable_conflict use_column
BEGIN
    IF NOT stats_schema.chat_stats_has_purged() THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT t.model_id, stats_schema.chat_stats_bucket_at(t.day, s.slot), s.bin, s.n
    FROM stats_schema.{{ rollup('model').purged }} AS t
    CROSS JOIN LATERAL unnest(t.bin_slots, t.bins, t.counts) AS s (slot, bin, n)
    WHERE (p_start IS NULL OR t.day >= stats_schema.chat_stats_day(p_start)
                               AND stats_schema.chat_stats_bucket_at(t.day, s.slot) >= p_start)
      AND (p_end IS NULL OR t.day <= stats_schema.chat_stats_day(p_end)
                             AND stats_schema.chat_stats_bucket_at(t.day, s.slot) < p_end)
    UNION ALL
    SELECT d.model_id, d.bucket, stats_schema.chat_stats_bin(d.time_ms), d.timed
    FROM stats_schema.chat_stats_kept AS d
    WHERE d.timed <> 0 AND (p_start IS NULL OR d.bucket >= p_start) AND (p_end IS NULL OR d.bucket < p_end);
END
$function$;
$install$);
