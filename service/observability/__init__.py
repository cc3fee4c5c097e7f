"""What operators see: metrics, logs, request ids, traces."""
