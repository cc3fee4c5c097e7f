-- Whether the requests have the optional column cost_usd, of a type that can be summed: elsewhere the name in here
-- becomes one that no column has.
SELECT EXISTS (
    SELECT FROM pg_attribute AS a
    WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
      AND a.attname = 'readable.cost_usd' AND NOT a.attisdropped
) AS has_cost
