"""HTTP only: read the parameters, call the flow, set the headers."""
