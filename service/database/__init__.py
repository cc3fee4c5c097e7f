"""Postgres: connections, snapshots, names, migrations, errors."""
