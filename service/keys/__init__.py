"""Scoped keys: the table that keeps them, and what a process knows of it."""
