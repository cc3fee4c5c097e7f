-- A text with conditions in place of @kept@ and @requests@. It is split first, so that what a value of a filter looks like
-- is never taken for one of these.
SELECT chat_stats_install('chat_stats_with_filters', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_with_filters(p_text text, p_kept text, p_requests text)
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN (
    SELECT string_agg(replace(t.part, '@requests@', p_requests), p_kept ORDER BY t.place)
    FROM unnest(string_to_array(p_text, '@kept@')) WITH ORDINALITY AS t (part, place)
);
$install$);
