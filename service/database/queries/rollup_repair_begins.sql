-- A repair begins at $1, or where the requests' table changed or writes went uncounted, from the beginning: what is
-- recounted from now on includes them. Until it is done, the rollup of such requests is not read.
WITH forgotten AS (
    DELETE FROM stats_schema.chat_stats_uncounted AS u
    USING stats_schema.chat_stats_request_tables() AS t
    WHERE t.relation = u.relation
    RETURNING u.relation
), found AS (
    SELECT
        COALESCE(s.columns = stats_schema.chat_stats_request_columns(), false)
            AND NOT EXISTS (SELECT FROM forgotten) AS sound
    FROM stats_schema.chat_stats_rollup_state AS s
)
UPDATE stats_schema.chat_stats_rollup_state AS s
SET backfilled_to = CASE WHEN f.sound THEN $1::text::timestamptz ELSE '-infinity' END,
    ready = s.ready AND f.sound,
    columns = stats_schema.chat_stats_request_columns()
FROM found AS f
RETURNING s.backfilled_to::text AS place
