"""Consent: one function that says what becomes of a message, for every transport, with its reason.

The rules are a table, read from top to bottom; the first that applies decides. Folders and their
order: wire spec section 4.5 in its intended meaning. A refusal is only possible while the sender
still waits for an answer; afterwards the same rule files the message where it costs no attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from events.identity import interest_percent


class Folder(StrEnum):
    """System folders of every mailbox (wire spec section 4.5)."""

    INBOX = "inbox"
    GOODREADS = "goodreads"
    OTHER = "other"
    SENT = "sent"
    DRAFT = "draft"
    ARCHIVE = "archive"
    TRASH = "trash"
    SPAM = "spam"
    HANDSHAKE = "handshake"


class Transport(StrEnum):
    """How a message reached the node."""

    SMTP = "smtp"
    MTP = "mtp"


class Standing(StrEnum):
    """What the owner's handshake book says about a sender."""

    ACCEPTED = "accepted"
    REVOKED = "revoked"
    REQUEST = "request"
    UNKNOWN = "unknown"


def standing_of_all(standings: Iterable[Standing]) -> Standing:
    """Combine what the book says about several authors of one message, to the owner's safety.

    One revoked author is enough to be revoked; only if all are accepted, the message is.
    """
    found = set(standings)
    for decisive in (Standing.REVOKED, Standing.UNKNOWN, Standing.REQUEST):
        if decisive in found:
            return decisive
    return Standing.ACCEPTED if found else Standing.UNKNOWN


class Reason(StrEnum):
    """Why a verdict is what it is: stable names, shown to the user and kept in the log."""

    NO_SUCH_MAILBOX = "no_such_mailbox"
    MAILBOX_DISABLED = "mailbox_disabled"
    SENDER_REVOKED = "sender_revoked"
    MAILBOX_FULL = "mailbox_full"
    SPAM_VERDICT = "spam_verdict"
    OWN_MESSAGE = "own_message"
    HANDSHAKE_ACCEPTED = "handshake_accepted"
    HANDSHAKE_ACCEPTED_UNVERIFIED = "handshake_accepted_unverified"
    HANDSHAKE_REQUESTED = "handshake_requested"
    HANDSHAKE_NOT_AUTHENTIC = "handshake_not_authentic"
    HANDSHAKE_LEVEL_TOO_LOW = "handshake_level_too_low"
    FREQUENCY_EXCEEDED = "frequency_exceeded"
    CORRESPONDENT = "correspondent"
    FIRST_CONTACT = "first_contact"
    OFTEN_READ = "often_read"
    SELDOM_READ = "seldom_read"


SET_ASIDE_MOST = 10
"""Messages over the agreed frequency that are set aside, each time, before the door says no."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that the policy may know about one message for one mailbox.

    `answered` is true once the node has taken responsibility for the message: it can't be refused any
    more. `sent`, `received` and `interest` count messages between the two before this one: to the
    sender, from the sender, and those from the sender that the owner showed interest in. Sizes are in
    bytes. `authenticated` is true when the author's domain is proven to have sent the message (by MTP: its
    server signed it; by SMTP: SPF or DKIM holds for that very domain), false when that failed, None while
    nobody has checked. `level_met` tells whether the handshake's level is as high as the node demands.
    `frequency_minutes` have to lie between two messages under the handshake (0: no limit); `quiet_ms` have
    passed since the last one that counted (None: there was none), and `set_aside` came too early since.
    `introduction` is true for a request for a handshake that came with an offer of the owner's, and for an
    answer to one.
    """

    transport: Transport
    answered: bool
    exists: bool = True
    enabled: bool = True
    standing: Standing = Standing.UNKNOWN
    authenticated: bool | None = None
    spam: bool = False
    own: bool = False
    size: int = 0
    used: int = 0
    quota: int = 0
    sent: int = 0
    received: int = 0
    interest: int = 0
    goodreads_percent: int = 30
    level_met: bool = True
    frequency_minutes: int = 0
    quiet_ms: int | None = None
    set_aside: int = 0
    introduction: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of the message: refused (`folder` is None) or filed, and why."""

    reason: Reason
    folder: Folder | None

    @property
    def refused(self) -> bool:
        """Whether the sender is to be told no."""
        return self.folder is None


def judge(case: Case) -> Verdict:
    """Apply the first rule that fits; there is always one."""
    for applies, reason, refuse, folder in _RULES:
        if applies(case):
            return Verdict(reason, None if refuse and not case.answered else folder)
    raise AssertionError("the last rule applies to everything")


def _full(case: Case) -> bool:
    return case.used + case.size > case.quota


def _accepted(case: Case) -> bool:
    return case.standing is Standing.ACCEPTED


def _forged(case: Case) -> bool:
    return _accepted(case) and case.authenticated is False


def _too_early(case: Case) -> bool:
    """Whether the agreed time has not passed; a clock that was set back doesn't count against anybody."""
    if not _accepted(case) or case.quiet_ms is None:
        return False
    return 0 <= case.quiet_ms < case.frequency_minutes * 60_000


def _floods(case: Case) -> bool:
    return not case.answered and case.set_aside >= SET_ASIDE_MOST and _too_early(case)


def _read_often(case: Case) -> bool:
    return interest_percent(case.interest, case.received) >= case.goodreads_percent


_Rule = tuple[Callable[[Case], bool], Reason, bool, Folder]

_RULES: tuple[_Rule, ...] = (
    # applies when …                            reason                       refuse  filed once answered
    (lambda c: not c.exists, Reason.NO_SUCH_MAILBOX, True, Folder.TRASH),
    (lambda c: not c.enabled, Reason.MAILBOX_DISABLED, True, Folder.INBOX),
    (lambda c: c.standing is Standing.REVOKED, Reason.SENDER_REVOKED, True, Folder.SPAM),
    (lambda c: not c.answered and _full(c), Reason.MAILBOX_FULL, True, Folder.INBOX),
    (lambda c: c.spam, Reason.SPAM_VERDICT, False, Folder.SPAM),
    (lambda c: c.own, Reason.OWN_MESSAGE, False, Folder.INBOX),
    (lambda c: c.introduction, Reason.HANDSHAKE_REQUESTED, False, Folder.HANDSHAKE),
    (_forged, Reason.HANDSHAKE_NOT_AUTHENTIC, False, Folder.OTHER),
    (lambda c: _accepted(c) and not c.level_met, Reason.HANDSHAKE_LEVEL_TOO_LOW, False, Folder.HANDSHAKE),
    (_floods, Reason.FREQUENCY_EXCEEDED, True, Folder.OTHER),
    (_too_early, Reason.FREQUENCY_EXCEEDED, False, Folder.OTHER),
    (lambda c: _accepted(c) and c.authenticated is True, Reason.HANDSHAKE_ACCEPTED, False, Folder.INBOX),
    (_accepted, Reason.HANDSHAKE_ACCEPTED_UNVERIFIED, False, Folder.INBOX),
    (lambda c: c.standing is Standing.REQUEST, Reason.HANDSHAKE_REQUESTED, False, Folder.HANDSHAKE),
    (lambda c: c.sent > 0, Reason.CORRESPONDENT, False, Folder.INBOX),
    (lambda c: c.received == 0, Reason.FIRST_CONTACT, False, Folder.INBOX),
    (_read_often, Reason.OFTEN_READ, False, Folder.GOODREADS),
    (lambda _: True, Reason.SELDOM_READ, False, Folder.OTHER),
)
