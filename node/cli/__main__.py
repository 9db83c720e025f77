"""`python -m node.cli` is the same as `mailio-node`."""

from node.cli.main import main

main()
