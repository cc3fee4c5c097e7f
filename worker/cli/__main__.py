"""`python -m worker.cli` is `chat-stats`."""

from chat_stats.worker.cli import main

main()
