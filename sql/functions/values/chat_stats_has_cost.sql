{% import 'macros/values.sql.j2' as values %}
-- Whether the requests have the optional column cost_usd, of a type that can be summed: elsewhere the name in here
-- becomes one that no column has.
SELECT chat_stats_install('chat_stats_has_cost', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_has_cost()
RETURNS boolean
LANGUAGE sql
STABLE
PARALLEL SAFE  -- or the statement that calls it could not run in parallel
RETURN {{ values.has_cost("to_regclass('gateway_schema.chat_completion_requests')") }};
$install$);
