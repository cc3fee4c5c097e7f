-- Whether the requests have the optional column cost_usd, of a type that can be summed: elsewhere the name in here
-- becomes one that no column has.
SELECT chat_stats_install('chat_stats_has_cost', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_has_cost()
RETURNS boolean
LANGUAGE sql
STABLE
PARALLEL SAFE  -- or the statement that calls it could not run in parallel
RETURN EXISTS (
    SELECT FROM pg_attribute AS a
    WHERE a.attrelid = to_regclass('gateway_schema.chat_completion_requests')
      AND a.attname = 'readable.cost_usd' AND NOT a.attisdropped
);
$install$);
