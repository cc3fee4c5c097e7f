{% import 'macros/rollups.sql.j2' as kept %}
-- A repair begins: rollups of the operator's own whose dimensions' columns changed, or of whose dimensions writes knew
-- nothing, are not read until all of them is recounted; nor are those that a repair has not begun with. What was purged
-- meanwhile was kept without these dimensions: so they are whole from then on alone.
-- Of all rollups, or of $1 alone.
WITH forgotten AS (
    DELETE FROM stats_schema.chat_stats_uncounted AS u
    WHERE u.relation = to_regclass('stats_schema.chat_stats_rollups')::oid AND $1::text IS NULL
    RETURNING u.relation
), found AS (
    SELECT
        r.name, stats_schema.chat_stats_dimension_columns(r.sources) AS columns,
        COALESCE(r.columns = stats_schema.chat_stats_dimension_columns(r.sources), false)
            AND NOT EXISTS (SELECT FROM forgotten) AS sound
    FROM stats_schema.chat_stats_rollups AS r
)
UPDATE stats_schema.chat_stats_rollups AS r
SET ready = r.ready AND f.sound,
    backfilled_to = CASE WHEN r.ready AND f.sound THEN NULL
                         WHEN f.sound AND r.drift = 0 THEN COALESCE(r.backfilled_to, '-infinity') ELSE '-infinity' END,
    columns = f.columns,
    whole_from = CASE WHEN f.sound OR r.columns IS NULL THEN r.whole_from ELSE GREATEST(r.whole_from, {{ kept.purged_until() | indent(4) }}) END
FROM found AS f
WHERE f.name = r.name AND COALESCE(r.name = $1::text, true)
