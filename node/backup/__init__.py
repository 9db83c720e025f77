"""Backups of a node: making points, checking them, restoring from them."""
