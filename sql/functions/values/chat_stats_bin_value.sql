{% import 'macros/values.sql.j2' as values %}
-- The time that stands for all of a bin of chat_stats_bin(): 2 * 1.04^i / 2.04, from which none of them is
-- further away than 2 %; with rounding, 2.5 %.
SELECT chat_stats_install('chat_stats_bin_value', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_bin_value(p_bin smallint)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN {{ values.bin_value('p_bin') }};
$install$);
