"""MIME: what a raw message says, bounded and without ever failing."""
