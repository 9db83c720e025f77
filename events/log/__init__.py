"""The append-only log: one global order, optimistic streams, group commit, a chain of hashes."""
