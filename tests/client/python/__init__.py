"""The reference client in Python; begin reading at `message.py`. Imports nothing of the node."""
