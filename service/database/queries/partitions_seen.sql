-- Remember the partitions that there are.
INSERT INTO stats_schema.chat_stats_partitions (partition, starts, ends, attached)
SELECT n.partition, n.starts, n.ends, true FROM stats_schema.chat_stats_partitions_now() AS n
ON CONFLICT (partition) DO NOTHING
