-- Sessions that hold an advisory lock of ours in this database under a role that may not write the rollup's state.
-- $1, $2: the key of the lock.
SELECT l.pid, a.usename::text AS role
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND l.classid = $1::integer::oid AND l.objid = $2::integer::oid
  AND NOT has_table_privilege(a.usesysid, to_regclass('stats_schema.chat_stats_rollup_state'), 'UPDATE')
