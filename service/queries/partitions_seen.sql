-- Remember the partitions that there are.
INSERT INTO chat_stats_partitions (partition, starts, ends, attached)
SELECT n.partition, n.starts, n.ends, true FROM chat_stats_partitions_now() AS n
ON CONFLICT (partition) DO NOTHING
