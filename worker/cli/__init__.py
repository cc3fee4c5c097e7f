"""The `chat-stats` command, one file a command group."""

from chat_stats.worker.cli.app import main

__all__ = ["main"]
