"""`make demo`: two nodes on this machine, one conversation, and what goes wrong in the middle of it."""
