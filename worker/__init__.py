"""The chat-stats background worker, its jobs, and the command line."""
