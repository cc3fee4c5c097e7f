"""Benchmarks: what chat-stats costs beside other ways to the same numbers. Never part of the test run."""
