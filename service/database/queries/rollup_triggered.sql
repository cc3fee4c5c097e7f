-- The tables that have triggers of ours.
SELECT DISTINCT t.tgrelid::regclass::text AS name
FROM pg_trigger AS t
WHERE t.tgfoid = to_regproc('stats_schema.chat_stats_record_changes')::oid
