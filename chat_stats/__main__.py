"""`python -m chat_stats` is `chat-stats`."""

from chat_stats.worker.cli import main

main()
