-- The first serves answers about a time range; the second answers about one model, and the COUNT per
-- model of the fallback methods, without touching the table.
SELECT chat_stats_index_statements(
    'chat_completion_requests'::regclass, 'chat_stats_requests_created_at_idx'::text, ARRAY['created_at']::name[]
)
\gexec

SELECT chat_stats_index_statements(
    'chat_completion_requests'::regclass, 'chat_stats_requests_model_id_created_at_idx'::text,
    ARRAY['model_id', 'created_at']::name[]
)
\gexec
