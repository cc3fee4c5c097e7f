-- How many requests there are, from the rollup; NULL where it is off, or also counts requests that were purged:
-- then the requests must be counted.
-- $1, $2: start and end of the time range; $3, $4: a provider's and a model's id as text; $5: ids of models as
-- text. NULL: no limit.
SELECT CASE WHEN stats_schema.chat_stats_rollup_ready() AND NOT EXISTS (
    -- Through jsonb, so that it also works before the migration that adds this column.
    SELECT FROM stats_schema.chat_stats_rollup_state AS s
    WHERE (to_jsonb(s) ->> 'purged_before')::timestamptz > COALESCE($1::timestamptz, '-infinity')
) AND NOT EXISTS (
    SELECT FROM stats_schema.chat_stats_kept AS k
    WHERE k.bucket >= COALESCE(stats_schema.chat_stats_bucket($1::timestamptz), '-infinity')
) THEN (
    SELECT COALESCE(sum(u.total_requests), 0)::bigint
    FROM stats_schema.chat_stats_usage($1::timestamptz, $2::timestamptz, $3::text, $4::text, NULL::text) AS u
    WHERE u.model_id IS NOT NULL AND ($5::text[] IS NULL OR u.model_id::text = ANY ($5))
) END AS count
