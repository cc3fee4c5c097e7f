-- The earlier, unguarded trigger, kept to be measured beside the current one: any error in it fails the writer's
-- statement, and it groups the rows that a statement changes.
CREATE TABLE deltas_unguarded (LIKE chat_stats_deltas INCLUDING ALL);

CREATE OR REPLACE FUNCTION record_changes_unguarded()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- writers of requests need no rights on our tables
SET search_path FROM CURRENT
AS $function$
#variable_conflict use_column
DECLARE
    delta record;
    inserted integer := 0;
BEGIN
    IF to_regclass('deltas_unguarded') IS NULL THEN
        RETURN NULL;  -- a dropped table must not fail the writer
    END IF;

    -- Gateways insert one request at a time: for one row, grouping costs more than all the rest together.
    IF TG_OP = 'INSERT' THEN
        FOR delta IN
            SELECT
                COALESCE(r.model_id, id_type.model_id) AS model_id,
                chat_stats_bucket(r.created_at) AS bucket,
                CASE WHEN chat_stats_is_success(r.status::text) THEN 1 ELSE 0 END AS successful,
                COALESCE(r.input_tokens, 0)::numeric AS input_tokens,
                COALESCE(r.output_tokens, 0)::numeric AS output_tokens,
                CASE WHEN r.time_ms IS NULL THEN 0 ELSE 1 END AS timed,
                COALESCE(r.time_ms, 0) AS time_ms,
                COALESCE(r.cost_usd, 0) AS cost_usd
            FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- if the column is missing
            CROSS JOIN (SELECT (NULL::deltas_unguarded).model_id) AS id_type
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
        LOOP
            inserted := inserted + 1;
            EXIT WHEN inserted > 1;
        END LOOP;
        IF inserted = 1 THEN
            INSERT INTO deltas_unguarded (
                model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
            ) VALUES (
                delta.model_id, delta.bucket, 1, delta.successful,
                delta.input_tokens, delta.output_tokens, delta.timed, delta.time_ms, delta.cost_usd
            );
        END IF;
        IF inserted <= 1 THEN
            RETURN NULL;
        END IF;
    END IF;

    IF TG_OP <> 'INSERT' THEN
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
            CROSS JOIN (SELECT (NULL::deltas_unguarded).model_id) AS id_type
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
            GROUP BY 1, 2
        LOOP
            INSERT INTO deltas_unguarded (
                model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd,
                times
            ) VALUES (
                delta.model_id, delta.bucket, -delta.requests, -delta.successful,
                -delta.input_tokens, -delta.output_tokens, -delta.timed, -delta.time_ms, -delta.cost_usd,
                delta.times
            );
        END LOOP;
    END IF;
    IF TG_OP <> 'DELETE' THEN
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
            CROSS JOIN (SELECT (NULL::deltas_unguarded).model_id) AS id_type
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
            GROUP BY 1, 2
        LOOP
            INSERT INTO deltas_unguarded (
                model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd,
                times
            ) VALUES (
                delta.model_id, delta.bucket, delta.requests, delta.successful,
                delta.input_tokens, delta.output_tokens, delta.timed, delta.time_ms, delta.cost_usd,
                delta.times
            );
        END LOOP;
    END IF;
    RETURN NULL;
END
$function$;

ALTER FUNCTION record_changes_unguarded() SET timezone = 'UTC';
CREATE TABLE unguarded_requests (LIKE chat_completion_requests INCLUDING ALL);
CREATE TRIGGER chat_stats_insert AFTER INSERT ON unguarded_requests REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION record_changes_unguarded();
CREATE TRIGGER chat_stats_update AFTER UPDATE ON unguarded_requests
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION record_changes_unguarded();
CREATE TRIGGER chat_stats_delete AFTER DELETE ON unguarded_requests REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION record_changes_unguarded();
