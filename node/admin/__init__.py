"""The operator's door: what commands ask of a node, over a socket when a daemon runs, else directly."""
