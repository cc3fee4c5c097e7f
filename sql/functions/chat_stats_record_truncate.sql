-- Appends what TRUNCATE is about to take away: all that is there.
CREATE OR REPLACE FUNCTION chat_stats_record_truncate()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- whoever may write requests need not know of our tables
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    delta record;
BEGIN
    IF to_regclass('chat_stats_deltas') IS NULL THEN
        RETURN NULL;  -- somebody dropped it: no reason to fail
    END IF;
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        -- TRUNCATE takes rows, too, that are younger than the snapshot, and they cannot be counted.
        UPDATE chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
        RAISE WARNING 'TRUNCATE in a % transaction: the rollup is not read until chat-stats rollup enable has run',
            upper(current_setting('transaction_isolation'));
    END IF;
    FOR delta IN
        SELECT
            COALESCE(r.model_id, id_type.model_id) AS model_id,
            chat_stats_bucket(r.created_at) AS bucket,
            count(*) AS requests,
            count(*) FILTER (WHERE chat_stats_is_success(r.status::text)) AS successful,
            COALESCE(sum(r.input_tokens), 0)::numeric AS input_tokens,
            COALESCE(sum(r.output_tokens), 0)::numeric AS output_tokens,
            count(r.time_ms) AS timed,
            COALESCE(sum(r.time_ms), 0) AS time_ms,
            COALESCE(sum(r.cost_usd), 0) AS cost_usd,
            CASE WHEN count(r.time_ms) > 1
                 THEN array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) END AS times
        FROM (SELECT NULL::numeric AS cost_usd) AS absent
        CROSS JOIN (SELECT (NULL::chat_stats_deltas).model_id) AS id_type
        CROSS JOIN LATERAL (
            SELECT
                model_id, created_at, status, input_tokens, output_tokens,
                CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                     THEN processing_time_ms END::numeric AS time_ms,
                CASE WHEN cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                     THEN cost_usd END::numeric AS cost_usd
            FROM chat_completion_requests
            WHERE model_id IS NOT NULL
        ) AS r
        GROUP BY 1, 2
    LOOP
        INSERT INTO chat_stats_deltas (
            model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd,
            times
        ) VALUES (
            delta.model_id, delta.bucket, -delta.requests, -delta.successful,
            -delta.input_tokens, -delta.output_tokens, -delta.timed, -delta.time_ms, -delta.cost_usd,
            delta.times
        );
    END LOOP;
    RETURN NULL;
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_record_truncate()');
