-- The tables that have triggers of ours, and the function that these call.
SELECT DISTINCT t.tgrelid::regclass::text AS name, p.proname::text AS function
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
WHERE t.tgfoid IN (
    to_regproc('stats_schema.chat_stats_record_changes')::oid,
    to_regproc('stats_schema.chat_stats_record_shard_changes')::oid
)
