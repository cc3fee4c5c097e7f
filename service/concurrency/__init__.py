"""How the tasks of one process share work."""
