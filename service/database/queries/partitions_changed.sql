-- Partitions of the requests that upkeep saw the last time and that are gone now, or are back.
SELECT s.partition, s.starts::text, s.ends::text, s.attached AS gone
FROM stats_schema.chat_stats_partitions AS s
WHERE s.attached <> (s.partition IN (SELECT n.partition FROM stats_schema.chat_stats_partitions_now() AS n))
ORDER BY s.starts
