"""REST API v2: a file a noun."""
