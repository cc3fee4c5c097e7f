{% import 'macros/values.sql.j2' as values %}
-- The bin of a time in a logarithmic histogram: bin i holds (1.04^(i-1), 1.04^i] ms, so that its middle is
-- within 2 % of each time in it. Up to a microsecond, and below 0, is bin -32768, whose middle is 0.
SELECT chat_stats_install('chat_stats_bin', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_bin(p_time_ms numeric)
RETURNS smallint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN {{ values.bin('p_time_ms') }};
$install$);
