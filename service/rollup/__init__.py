"""The rollup in Postgres, seen from here: switching it on, keeping it right, purging what is old."""
