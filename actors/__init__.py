"""Who decides: one actor at a time per mailbox, handshake book and account."""
