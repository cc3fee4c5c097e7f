{% import 'macros/indexes.sql.j2' as indexes %}
-- The first serves answers about a time range; the second answers about one model, and the COUNT per
-- model of the fallback methods, without touching the table. The third serves single requests of one status, rare ones
-- too, and tells which statuses are in use.
{{ indexes.index('chat_stats_requests_created_at_idx', ['created_at'], in_one_file) }}
{{ indexes.index('chat_stats_requests_model_id_created_at_idx', ['model_id', 'created_at'], in_one_file) }}
{{ indexes.index('chat_stats_requests_status_created_at_idx', ['status', 'created_at'], in_one_file) }}
