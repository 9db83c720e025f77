"""Mail from and to the rest of the world over SMTP (RFC 5321).

The receiving door: `door` listens, `connection` joins a socket to `session`, the state machine without
I/O, which reads commands with `grammar` and messages with `content`. `ports` is what the node gives it.
"""
