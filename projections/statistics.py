"""How much passed between whom, and what of it was read with interest (wire spec section 4.5).

Counters stand under hashes of bare identifiers, as on the wire. What the owner sent is counted by the mailbox
itself (`events.mailbox.Correspondent`): one message has many recipients, and an event changes one document.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from events.account import AccountErased
from events.errors import CorruptRecord
from events.event import Recorded
from events.identity import interest_key, sent_key
from events.mailbox import STREAM, InterestShown, MessageFiled
from projections.revision import computed
from projections.view_store import Change, Document, Documents, Effect, Forget

STATISTICS = "email_statistics"
"""Counters: `es:` of messages, `esint:` of interest."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Counter(msgspec.Struct, frozen=True):
    """A counter's document: hash texts of the two it is about, and how often."""

    sender: str
    recipient: str
    count: int


_decode = msgspec.json.Decoder(Counter).decode


class Statistics:
    """View `statistics`.

    `InterestShown` comes once for each message that was read with interest (`events.mailbox` sees to it), so
    its counter needs no set of ids.
    """

    name = "statistics"
    schema = 1
    types = frozenset(event.__name__ for event in (MessageFiled, InterestShown, AccountErased))

    async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
        """Return the counter that the event raises; for an erased account, forget all of its mailbox."""
        owner = record.stream.removeprefix(STREAM)
        match record.event:
            case MessageFiled(sender=sender):
                key = sent_key(sender, owner)
            case InterestShown(sender=sender):
                key = interest_key(sender, owner)
            case AccountErased(address=address):
                # The owner of the mailbox that raised a counter stands at the end of its key.
                recipient = sent_key("", address).rpartition(":")[2]
                return [Forget(database=STATISTICS, ending=f":{recipient}")]
            case _:
                return []
        return [_raised(key, await documents.get(STATISTICS, key), record.position)]


def _raised(key: str, stored: Document | None, seq: int) -> Change:
    _, sender, recipient = key.split(":")
    body = _encode(Counter(sender=sender, recipient=recipient, count=_count(stored) + 1))
    parent = stored.winner.rev if stored else None
    rev = computed(parent, deleted=False, body=body)
    return Change(
        database=STATISTICS,
        id=key,
        seq=seq,
        revisions=(rev, parent) if parent else (rev,),
        body=body,
    )


def _count(stored: Document | None) -> int:
    if stored is None:
        return 0
    try:
        return _decode(stored.winner.body).count
    except msgspec.MsgspecError as error:
        raise CorruptRecord("a counter makes no sense", f"{stored.id}: {error}") from error


class SenderStatistics:
    """Answers what an owner got from a correspondent (email, address or DID)."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def received(self, owner: str, sender: str) -> int:
        """Messages from the sender in the owner's mailbox."""
        return await self._of(sent_key(sender, owner))

    async def interest(self, owner: str, sender: str) -> int:
        """Messages from the sender that the owner read with interest."""
        return await self._of(interest_key(sender, owner))

    async def _of(self, key: str) -> int:
        return _count(await self._documents.get(STATISTICS, key))
