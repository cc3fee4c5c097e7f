"""Answers in Redis and in memory: entries, generations, leases, single flight."""
