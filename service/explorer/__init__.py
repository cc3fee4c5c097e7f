"""Single requests: filters, pages, downloads, and points for plots."""
