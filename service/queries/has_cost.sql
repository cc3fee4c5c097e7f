-- Whether the requests have the optional column cost_usd.
SELECT EXISTS (
    SELECT FROM pg_attribute AS a
    WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
      AND a.attname = 'cost_usd' AND NOT a.attisdropped
) AS has_cost
