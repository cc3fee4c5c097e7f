{% import 'macros/values.sql.j2' as values %}
-- Whether the requests have the optional column cost_usd, of a type that can be summed.
SELECT {{ values.has_cost("'gateway_schema.chat_completion_requests'::regclass") }} AS has_cost
