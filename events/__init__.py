"""What happened, and what may happen: events, decisions and the log they are kept in.

The domain modules (`account`, `mailbox`, `handshake`, `policy`) are pure: no I/O, no clock, no
randomness, no threads. Time, identifiers and random bytes come in with the command. `events.log` is
the one place of this room that touches storage.
"""
