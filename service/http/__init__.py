"""Everything of HTTP that is not a route."""
