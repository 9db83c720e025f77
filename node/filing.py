"""What the operator reads about a filing: one line in the daemon's messages for each."""

from __future__ import annotations

import structlog

from events.event import Recorded
from events.mailbox import STREAM, MessageFiled
from node.smtp.replies import printable

_messages = structlog.get_logger("mailbox")


def report_filing(record: Recorded) -> None:
    """Write the line; the session's `accepted` line has the same mail id."""
    filed = record.event
    if isinstance(filed, MessageFiled):
        _messages.info(
            "filed",
            mail=filed.mail,
            mailbox=record.stream.removeprefix(STREAM),
            sender=printable(filed.sender),
            folder=filed.folder.value,
            reason=filed.reason.value,
            document=filed.id,
            position=record.position,
        )
