"""The HTTP interface: resources under /api/v1, event streams, sign-in, and the console page."""
