"""Keys, tokens, credentials, signed documents, passwords and passkeys."""
