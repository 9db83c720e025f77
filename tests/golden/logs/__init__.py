"""Golden logs, one a folder; `recording` makes them."""
