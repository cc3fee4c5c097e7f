-- Percentiles of processing_time_ms over [p_start, p_end) by nearest rank, within 2.5 % of the exact ones, of all
-- requests (p_group_by none: always one row, of zeros without times), or of each provider or model that has times; or
-- both: of each model and, with group_id NULL (where there are times), of all requests. All requests are those without
-- a model that exists, too, unless they are narrowed down; p_model_id 'unresolved': these alone.
-- Up to a microsecond, and below 0, a time counts as 0.
SELECT chat_stats_claim_function('get_chat_request_percentiles');

SELECT chat_stats_install('get_chat_request_percentiles', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_chat_request_percentiles(
    p_group_by text DEFAULT 'none',
    p_start timestamptz DEFAULT NULL,
    p_end timestamptz DEFAULT NULL,
    p_provider_id text DEFAULT NULL,
    p_model_id text DEFAULT NULL,
    p_model_name text DEFAULT NULL
)
RETURNS TABLE (
    group_id text,
    p50_processing_time_ms numeric,
    p90_processing_time_ms numeric,
    p95_processing_time_ms numeric,
    p99_processing_time_ms numeric
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        p.group_id, p.p50_processing_time_ms, p.p90_processing_time_ms, p.p95_processing_time_ms,
        p.p99_processing_time_ms
    FROM stats_schema.chat_stats_level_percentiles(
        CASE p_group_by WHEN 'both' THEN ARRAY['model', 'none'] ELSE ARRAY[p_group_by] END,
        p_start, p_end, p_provider_id, p_model_id, p_model_name
    ) AS p
    ORDER BY p.group_id;
    IF NOT FOUND AND p_group_by = 'none' THEN
        RETURN QUERY SELECT NULL::text, 0::numeric, 0::numeric, 0::numeric, 0::numeric;
    END IF;
END
$function$;
$install$);
