"""The client HTTP API: one module per noun, one table of routes."""
