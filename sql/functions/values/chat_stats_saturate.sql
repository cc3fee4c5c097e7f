{% import 'macros/values.sql.j2' as values %}
-- A sum as bigint. SUM of a bigint is numeric, and a sum beyond bigint's range is shown as its limit:
-- one absurd row must not fail every statistic.
SELECT chat_stats_install('chat_stats_saturate', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_saturate(p_sum numeric)
RETURNS bigint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN {{ values.saturate('p_sum') }};
$install$);
