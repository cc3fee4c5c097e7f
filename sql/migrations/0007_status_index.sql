-- Serves single requests of one status, rare ones too, and tells which statuses are in use.
SELECT chat_stats_index_statements(
    'chat_completion_requests'::regclass, 'chat_stats_requests_status_created_at_idx'::text,
    ARRAY['status', 'created_at']::name[]
)
\gexec
