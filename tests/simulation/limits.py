"""Whether agreed limits were kept, judged from what happened, without the code that enforces them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from events.event import Recorded
from events.handshake import (
    HandshakeAccepted,
    HandshakeForgotten,
    HandshakeRequested,
    HandshakeRevoked,
)
from events.identity import handshake_id
from events.mail import MailAccepted
from events.mailbox import MessageFiled
from events.policy import Folder
from node.mtp.limits import MtpSettings
from tests.simulation.node import Served

MINUTE_MS = 60_000


class _Terms:
    """What one owner said of each sender, and when in the log: minutes between two messages, 0 for no limit."""

    def __init__(self) -> None:
        self._said: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def note(self, record: Recorded) -> None:
        """Remember what an event of the owner's book says."""
        match record.event:
            case HandshakeAccepted(terms=terms):
                self._said[terms.id].append((record.position, terms.frequency_minutes))
            case HandshakeRevoked(terms=terms) | HandshakeRequested(terms=terms):
                self._said[terms.id].append((record.position, 0))
            case HandshakeForgotten(id=ident):
                self._said[ident].append((record.position, 0))

    def minutes(self, ident: str, first: int, last: int) -> int:
        """Return the mildest limit that was in force between two positions, 0 when there was none at a time."""
        before = [minutes for position, minutes in self._said[ident] if position <= first][-1:]
        between = [minutes for position, minutes in self._said[ident] if first < position <= last]
        return min([*before, *between], default=0) if before else 0


def too_soon(records: Sequence[Recorded], owner: str) -> Iterator[str]:
    """Name messages that came to the inbox within the time that the owner wants between two.

    Both have to have come while a limit was in force, from the node's promise to the filing: which terms count
    for a message is decided somewhere in between.
    """
    terms, accepted, last = _Terms(), dict[str, int](), dict[str, int]()
    for record in records:
        if record.stream == f"handshake-{owner}":
            terms.note(record)
        if isinstance(record.event, MailAccepted):
            accepted[record.stream.removeprefix("mail-")] = record.position
        if not isinstance(record.event, MessageFiled) or not record.stream.endswith(owner):
            continue
        filed = record.event
        ident = handshake_id(owner, filed.sender)
        minutes = terms.minutes(ident, accepted[filed.mail], record.position)
        if filed.folder is not Folder.INBOX or not minutes:
            continue
        if 0 <= filed.filed_at - last.get(ident, -MINUTE_MS * minutes) < MINUTE_MS * minutes:
            yield f"{filed.message_id}, {(filed.filed_at - last[ident]) / 1000:.0f} s after another one"
        last[ident] = filed.filed_at


def too_many(served: Iterable[Served], settings: MtpSettings) -> Iterator[tuple[str, str, int]]:
    """Name lives that took more of a peer than its rate allows: (life, peer, requests).

    A request counts for a time when it came and was answered in it.
    """
    by_peer: dict[tuple[str, str], list[Served]] = defaultdict(list)
    for one in served:
        by_peer[one.life, one.peer].append(one)
    for (life, peer), some in by_peer.items():
        for begin in {one.came for one in some}:
            within = sorted(one.answered for one in some if one.came >= begin)
            for count, end in enumerate(within, 1):
                if count > settings.request_burst + settings.requests_per_second * (end - begin) + 1e-6:
                    yield life, peer, count
