{% import 'macros/values.sql.j2' as values %}
-- Whether a status means that it is not known yet if the request succeeds; as chat_stats_is_success().
SELECT chat_stats_install('chat_stats_is_pending', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_is_pending(p_status text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN COALESCE(
    {{ values.means_pending('p_status') }},
    false
);
$install$);
