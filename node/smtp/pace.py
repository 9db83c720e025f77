"""The phases of a session, and how long it may stay in each: the door's answer to slow clients."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from node.smtp import replies
from node.smtp.limits import SmtpLimits
from node.smtp.replies import Reply


class Phase(StrEnum):
    """Where a session stands."""

    BANNER = "banner"
    COMMAND = "command"
    ADMITTING = "admitting"
    DATA = "data"
    ACCEPTING = "accepting"
    HANDSHAKE = "handshake"
    CLOSED = "closed"


class Waited(msgspec.Struct, frozen=True):
    """Milliseconds since the session began, since the client's last whole command or bytes of content,
    and since DATA; octets of content that came since then.
    """

    session: int
    idle: int
    content: int
    received: int


def too_slow(phase: Phase, waited: Waited, limits: SmtpLimits) -> Reply | None:
    """Give the reply that ends a session which has used up its time; None: let it go on.

    Single bytes of a command do not count as a sign of life, only its end does. A transfer may begin
    with a pause of `idle_seconds` and then has to keep up the average rate.
    """
    idle = waited.idle > limits.idle_seconds * 1000
    if phase is Phase.DATA:
        if idle or waited.content > limits.data_seconds * 1000:
            return replies.TIMEOUT
        earned = waited.received * 1000 // limits.data_bytes_per_second
        return replies.TOO_SLOW if waited.content > limits.idle_seconds * 1000 + earned else None
    if phase is Phase.COMMAND:
        if waited.session > limits.session_seconds * 1000:
            return replies.SESSION_TOO_LONG
        return replies.TIMEOUT if idle else None
    return None
