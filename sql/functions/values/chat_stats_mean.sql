{% import 'macros/values.sql.j2' as values %}
-- A mean with two places; 0 when there is nothing to take it from.
SELECT chat_stats_install('chat_stats_mean', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_mean(p_sum numeric, p_count bigint)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN {{ values.mean('p_sum', 'p_count') }};
$install$);
