{% import 'macros/values.sql.j2' as values %}
-- Whether a status means that the request succeeded. Callers pass concat(status), not status::text, which would run a
-- cast that the owner of the status's type made. So the blanks of a character(n) come along.
SELECT chat_stats_install('chat_stats_is_success', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_is_success(p_status text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN COALESCE(
    {{ values.means_success('p_status') }},
    false
);
$install$);
