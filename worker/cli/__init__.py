"""The `chat-stats` command, one file a command group."""

from worker.cli.app import main

__all__ = ["main"]
