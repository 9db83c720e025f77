"""The reference client library: what a Mailio client does with keys and encrypted messages."""
