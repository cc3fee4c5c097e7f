"""The method ladder, and its statements."""
