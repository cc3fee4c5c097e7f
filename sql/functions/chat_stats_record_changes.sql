-- Appends what a statement changed, by model and bucket: its old rows are taken away, its new ones added.
--
-- It runs in the writer's transaction, so it must never fail. What may fail is all in the block with the handler:
-- whether this table is counted, and each statement that appends, of no rows. There the column that was renamed or
-- retyped is noticed, and the table or function of ours that was dropped. Beyond it, the same statements have nothing
-- left to fail with. They stand outside, since a block with a handler that writes would cost the writer a transaction
-- id of its own. A write that cannot be counted leaves a row in chat_stats_uncounted instead, and from then on the
-- functions scan.
--
-- Types are checked, never converted from text: COALESCE() and BETWEEN know no operator for a column of another kind,
-- where a cast would try each value.
SELECT chat_stats_install('chat_stats_record_changes', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_record_changes()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- writers of requests need no rights on our tables
AS $function$
#variable_conflict use_column
DECLARE
    taken text;
    trouble text;
    can_mark boolean;
BEGIN
    BEGIN
        IF TG_RELID <> 'gateway_schema.chat_completion_requests'::regclass::oid
           AND NOT stats_schema.chat_stats_is_counted(TG_RELID) THEN
            RAISE EXCEPTION '% is not a part of chat_completion_requests', TG_RELID::regclass;
        ELSIF NOT has_table_privilege('stats_schema.chat_stats_deltas'::regclass, 'INSERT')
              OR row_security_active('stats_schema.chat_stats_deltas'::regclass) THEN
            RAISE EXCEPTION 'the owner of chat_stats_record_changes() may not insert into chat_stats_deltas';
        ELSIF TG_OP = 'TRUNCATE' THEN
            IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                RAISE EXCEPTION 'TRUNCATE in a % transaction takes requests that are younger than its snapshot',
                    upper(current_setting('transaction_isolation'));
            ELSIF row_security_active(TG_RELID) THEN
                RAISE EXCEPTION 'row level security hides requests from the owner of chat_stats_record_changes()';
            END IF;
            taken := format($taken$
                SELECT
                    r.model_id, stats_schema.chat_stats_bucket(r.created_at), -count(*),
                    -count(*) FILTER (WHERE stats_schema.chat_stats_is_success(r.status)),
                    -sum(r.input_tokens), -sum(r.output_tokens), -count(r.time_ms),
                    COALESCE(-sum(r.time_ms), 0), COALESCE(-sum(r.cost_usd), 0),
                    CASE WHEN count(r.time_ms) > 1
                         THEN array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) END
                FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
                CROSS JOIN LATERAL (
                    SELECT
                        model_id, COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
                        COALESCE(input_tokens, 0::bigint)::numeric AS input_tokens,
                        COALESCE(output_tokens, 0::bigint)::numeric AS output_tokens,
                        CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                             THEN processing_time_ms END::numeric AS time_ms,
                        CASE WHEN readable.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                             THEN readable.cost_usd END::numeric AS cost_usd
                    FROM ONLY %s
                    WHERE model_id IS NOT NULL
                ) AS r
                GROUP BY 1, 2
            $taken$, TG_RELID::regclass);
            EXECUTE 'SELECT FROM (TABLE stats_schema.chat_stats_deltas UNION ALL ' || taken || ') AS nothing WHERE false';
        END IF;
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            PERFORM FROM (
                SELECT model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
                FROM stats_schema.chat_stats_deltas
                UNION ALL
                SELECT
                    r.model_id, stats_schema.chat_stats_bucket(r.created_at), -1::bigint,
                    CASE WHEN stats_schema.chat_stats_is_success(r.status) THEN -1::bigint ELSE 0::bigint END,
                    -r.input_tokens, -r.output_tokens,
                    CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE -1::bigint END,
                    COALESCE(-r.time_ms, 0::numeric), COALESCE(-r.cost_usd, 0::numeric)
                FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
                CROSS JOIN LATERAL (
                    SELECT
                        model_id, COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
                        COALESCE(input_tokens, 0::bigint)::numeric AS input_tokens,
                        COALESCE(output_tokens, 0::bigint)::numeric AS output_tokens,
                        CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                             THEN processing_time_ms END::numeric AS time_ms,
                        CASE WHEN readable.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                             THEN readable.cost_usd END::numeric AS cost_usd
                    FROM old_rows
                    WHERE model_id IS NOT NULL
                ) AS r
            ) AS nothing
            WHERE false;
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            PERFORM FROM (
                SELECT model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd
                FROM stats_schema.chat_stats_deltas
                UNION ALL
                SELECT
                    r.model_id, stats_schema.chat_stats_bucket(r.created_at), 1::bigint,
                    CASE WHEN stats_schema.chat_stats_is_success(r.status) THEN 1::bigint ELSE 0::bigint END,
                    r.input_tokens, r.output_tokens,
                    CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE 1::bigint END,
                    COALESCE(r.time_ms, 0::numeric), COALESCE(r.cost_usd, 0::numeric)
                FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
                CROSS JOIN LATERAL (
                    SELECT
                        model_id, COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
                        COALESCE(input_tokens, 0::bigint)::numeric AS input_tokens,
                        COALESCE(output_tokens, 0::bigint)::numeric AS output_tokens,
                        CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                             THEN processing_time_ms END::numeric AS time_ms,
                        CASE WHEN readable.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                             THEN readable.cost_usd END::numeric AS cost_usd
                    FROM new_rows
                    WHERE model_id IS NOT NULL
                ) AS r
            ) AS nothing
            WHERE false;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        trouble := SQLERRM;
    END;

    IF trouble IS NOT NULL THEN
        BEGIN
            can_mark := has_table_privilege('stats_schema.chat_stats_uncounted'::regclass, 'INSERT')
                AND NOT row_security_active('stats_schema.chat_stats_uncounted'::regclass);
            PERFORM FROM (
                SELECT relation, reason FROM stats_schema.chat_stats_uncounted
                UNION ALL
                SELECT TG_RELID, trouble
            ) AS nothing
            WHERE false;
        EXCEPTION WHEN OTHERS THEN
            can_mark := false;  -- without that table the rollup is not read either
        END;
        IF can_mark THEN
            INSERT INTO stats_schema.chat_stats_uncounted (relation, reason) VALUES (TG_RELID, trouble);
        END IF;
        RETURN NULL;
    END IF;

    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE 'INSERT INTO stats_schema.chat_stats_deltas ' || taken;
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        INSERT INTO stats_schema.chat_stats_deltas (model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        SELECT
            r.model_id, stats_schema.chat_stats_bucket(r.created_at), -1::bigint,
            CASE WHEN stats_schema.chat_stats_is_success(r.status) THEN -1::bigint ELSE 0::bigint END,
            -r.input_tokens, -r.output_tokens,
            CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE -1::bigint END,
            COALESCE(-r.time_ms, 0::numeric), COALESCE(-r.cost_usd, 0::numeric)
        FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
        CROSS JOIN LATERAL (
            SELECT
                model_id, COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
                COALESCE(input_tokens, 0::bigint)::numeric AS input_tokens,
                COALESCE(output_tokens, 0::bigint)::numeric AS output_tokens,
                CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                     THEN processing_time_ms END::numeric AS time_ms,
                CASE WHEN readable.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                     THEN readable.cost_usd END::numeric AS cost_usd
            FROM old_rows
            WHERE model_id IS NOT NULL
        ) AS r;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO stats_schema.chat_stats_deltas (model_id, bucket, requests, successful, input_tokens, output_tokens, timed, time_ms, cost_usd)
        SELECT
            r.model_id, stats_schema.chat_stats_bucket(r.created_at), 1::bigint,
            CASE WHEN stats_schema.chat_stats_is_success(r.status) THEN 1::bigint ELSE 0::bigint END,
            r.input_tokens, r.output_tokens,
            CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE 1::bigint END,
            COALESCE(r.time_ms, 0::numeric), COALESCE(r.cost_usd, 0::numeric)
        FROM (SELECT NULL::numeric AS cost_usd) AS absent  -- where the column is missing
        CROSS JOIN LATERAL (
            SELECT
                model_id, COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
                COALESCE(input_tokens, 0::bigint)::numeric AS input_tokens,
                COALESCE(output_tokens, 0::bigint)::numeric AS output_tokens,
                CASE WHEN processing_time_ms BETWEEN -1000000000000000 AND 1000000000000000
                     THEN processing_time_ms END::numeric AS time_ms,
                CASE WHEN readable.cost_usd BETWEEN -1000000000000000 AND 1000000000000000
                     THEN readable.cost_usd END::numeric AS cost_usd
            FROM new_rows
            WHERE model_id IS NOT NULL
        ) AS r;
    END IF;
    RETURN NULL;
END
$function$;

-- It writes with its owner's rights: no other role may hang it on a table of its own.
REVOKE EXECUTE ON FUNCTION stats_schema.chat_stats_record_changes() FROM PUBLIC;
$install$);
