"""`python -m worker.cli` is `chat-stats`."""

from worker.cli import main

main()
