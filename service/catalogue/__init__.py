"""What there is to compute: aggregations, rows, time ranges, answer schemas."""
