"""`chat-stats demo`: everything on this machine, with sample data."""
