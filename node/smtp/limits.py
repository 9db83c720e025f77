"""Bounds on what one client may do at the receiving door; each is a setting with its reason."""

from __future__ import annotations

from typing import Literal

import msgspec

Strictness = Literal["refuse", "keep"]
"""What becomes of a message whose bytes break a rule of SMTP: refused, or kept as it came."""


class SmtpLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the receiving SMTP door. Sizes in octets, times in the unit that the name says."""

    message_bytes: int = 31_457_280
    """Largest message, announced as SIZE: 30 MiB (wire spec section 5.6). Above it: 552 5.3.4."""
    overrun_bytes: int = 31_457_280
    """Bytes of a refused message that are still read, so that the client hears why; then it is cut off."""
    memory_bytes: int = 536_870_912
    """Message bytes that all sessions may hold at once; a message that finds no room gets 452 4.3.1."""
    recipients: int = 100
    """Recipients of one mail: the minimum that RFC 5321 section 4.5.3.1.8 demands. Above it: 452 4.5.3."""
    command_bytes: int = 2_048
    """Command line with CRLF: the 512 of RFC 5321 section 4.5.3.1.4 and room for extensions. 500 5.5.2."""
    path_bytes: int = 256
    """Envelope address with angle brackets (RFC 5321 section 4.5.3.1.3). Above it: 501 5.1.7 or 5.1.3."""
    line_bytes: int = 2_048
    """Text line with CRLF. RFC 5321 asks senders for 1,000; real mail has more, and nothing here breaks on
    what Postfix takes as one line. Above it: 554 5.6.0."""
    bare_newlines: Strictness = "refuse"
    """A CR or LF that stands alone never ends a message; `refuse` also answers such a message 550 5.6.11."""
    nuls: Strictness = "refuse"
    """NUL is neither 7bit nor 8bit data (RFC 2045 section 2.8); `refuse` answers 550 5.6.0."""
    connections: int = 1_000
    """Sessions at once. Above it: 421 4.3.2. Keep it well below the process's limit of open files."""
    connections_per_address: int = 50
    """Sessions at once from one IPv4 address or IPv6 /64, as Postfix has it. Above it: 421 4.7.0."""
    commands: int = 10_000
    """Commands of one session. Above it: 421 4.7.0."""
    junk_commands: int = 100
    """NOOP, RSET, VRFY, HELP and repeated greetings since the last mail; each one more counts as an error."""
    errors: int = 20
    """Permanent refusals since the last accepted mail (Postfix's hard limit). At it: 421 4.7.0."""
    mails: int = 1_000
    """Mails of one session; the client may connect again. Above it: 421 4.7.0."""
    idle_seconds: int = 300
    """Wait for a whole command, or the next bytes of a message (RFC 5321 section 4.5.3.2.7). 421 4.4.2."""
    session_seconds: int = 7_200
    """Longest session, so that nobody keeps a place by sending NOOP. Above it: 421 4.4.2."""
    data_seconds: int = 3_600
    """Longest transfer of one message: 30 MiB at 9 kB/s. Above it: 421 4.4.2."""
    data_bytes_per_second: int = 500
    """Slowest average transfer after the first `idle_seconds`, as Postfix has it. Below it: 421 4.4.2."""
    answer_seconds: int = 300
    """Wait for the node's own answer to a recipient or a message (clients wait 300 to 600). 451 4.3.0."""
    handshake_seconds: int = 30
    """Wait for the end of a TLS handshake; then the connection is cut."""
    farewell_seconds: int = 10
    """Wait until a client has taken the last reply; then the connection is cut."""
    greeting_delay_ms: int = 0
    """Wait before the banner; whoever speaks before it is refused with 554 5.5.0. 0: no wait."""
    backlog: int = 512
    """Connections that the kernel may hold before the node has accepted them."""

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that lets nothing through."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int) and value < (0 if name in _MAY_BE_ZERO else 1):
                raise ValueError(f"{name} must be positive, got {value}")


_MAY_BE_ZERO = frozenset({"greeting_delay_ms", "overrun_bytes"})
