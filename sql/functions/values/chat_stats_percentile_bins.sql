-- The bins of chat_stats_highest_percentile_bins(), of all four percentiles.
SELECT chat_stats_install('chat_stats_percentile_bins', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_percentile_bins(p_bins smallint[], p_counts bigint[], p_total bigint)
RETURNS smallint[]
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN stats_schema.chat_stats_highest_percentile_bins(p_bins, p_counts, p_total, 1);
$install$);
