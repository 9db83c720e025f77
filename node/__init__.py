"""The doors, the adapters, and the place where all is wired together (`node.daemon`)."""
