{% import 'macros/values.sql.j2' as values %}
-- The start of the 15-minute UTC bucket of a moment; an infinite one is a bucket of its own.
--
-- Here and in the functions beside it, all is immutable in its own right: only then does Postgres put the
-- expression in place of the call, which for a row costs ten times as much.
SELECT chat_stats_install('chat_stats_bucket', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_bucket(p_moment timestamptz)
RETURNS timestamptz
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN {{ values.bucket('p_moment') }};
$install$);
