-- Appends what a statement changed, by model and bucket: old rows taken away, new ones added.
--
-- The transition tables are read alone and each group is inserted by itself, because a distributed Postgres
-- allows nothing else here.
CREATE OR REPLACE FUNCTION chat_stats_record_changes()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- whoever may write requests need not know of our tables
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    delta record;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        FOR delta IN
            SELECT
                r.model_id,
                chat_stats_bucket(r.created_at) AS bucket,
                count(*) AS requests,
                count(*) FILTER (WHERE chat_stats_is_success(r.status::text)) AS successful,
                COALESCE(sum(r.input_tokens), 0) AS input_tokens,
                COALESCE(sum(r.output_tokens), 0) AS output_tokens,
                COALESCE(sum(r.time_ms), 0) AS time_ms,
                COALESCE(sum(r.cost_usd), 0) AS cost_usd,
                array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) AS times
            FROM (SELECT NULL::numeric AS cost_usd) AS absent
            CROSS JOIN LATERAL (
                SELECT
                    model_id, created_at, status, input_tokens, output_tokens,
                    CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                         THEN processing_time_ms END::numeric AS time_ms,
                    CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                         THEN cost_usd END::numeric AS cost_usd
                FROM old_rows
                WHERE model_id IS NOT NULL
            ) AS r
            GROUP BY r.model_id, chat_stats_bucket(r.created_at)
        LOOP
            INSERT INTO chat_stats_deltas (
                model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, times
            ) VALUES (
                delta.model_id, delta.bucket, -delta.requests, -delta.successful,
                -delta.input_tokens, -delta.output_tokens, -COALESCE(cardinality(delta.times), 0),
                -delta.time_ms, -delta.cost_usd, delta.times
            );
        END LOOP;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        FOR delta IN
            SELECT
                r.model_id,
                chat_stats_bucket(r.created_at) AS bucket,
                count(*) AS requests,
                count(*) FILTER (WHERE chat_stats_is_success(r.status::text)) AS successful,
                COALESCE(sum(r.input_tokens), 0) AS input_tokens,
                COALESCE(sum(r.output_tokens), 0) AS output_tokens,
                COALESCE(sum(r.time_ms), 0) AS time_ms,
                COALESCE(sum(r.cost_usd), 0) AS cost_usd,
                array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) AS times
            FROM (SELECT NULL::numeric AS cost_usd) AS absent
            CROSS JOIN LATERAL (
                SELECT
                    model_id, created_at, status, input_tokens, output_tokens,
                    CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                         THEN processing_time_ms END::numeric AS time_ms,
                    CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                         THEN cost_usd END::numeric AS cost_usd
                FROM new_rows
                WHERE model_id IS NOT NULL
            ) AS r
            GROUP BY r.model_id, chat_stats_bucket(r.created_at)
        LOOP
            INSERT INTO chat_stats_deltas (
                model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd, times
            ) VALUES (
                delta.model_id, delta.bucket, delta.requests, delta.successful,
                delta.input_tokens, delta.output_tokens, COALESCE(cardinality(delta.times), 0),
                delta.time_ms, delta.cost_usd, delta.times
            );
        END LOOP;
    END IF;
    RETURN NULL;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_record_changes');
