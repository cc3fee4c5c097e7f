"""`chat-stats import`: rows of a file -> fields -> requests -> load, one module each."""
