"""An account with its mailbox as one file: export, and import on another node."""
