"""What may be said to the aggregate actors, besides `actors.runtime.reaction.React`."""

from __future__ import annotations

import msgspec

from events.log.log import Origin, Write


class Execute(msgspec.Struct, frozen=True):
    """Carry out a command of the actor's aggregate. The answer is the list of recorded events.

    `also` are writes to other streams that must happen in the same transaction or not at all.
    Errors of `decide` and of the log reach the asker.
    """

    command: object
    origin: Origin
    also: tuple[Write, ...] = ()


class Inspect(msgspec.Struct, frozen=True):
    """Ask for the actor's state. The answer is the live state: read it, never change it."""


class Refresh(msgspec.Struct, frozen=True):
    """Take in what others have appended to the actor's stream. The answer is None."""


class Consult(msgspec.Struct, frozen=True):
    """Ask a handshake book about a sender; the answer is an `events.consent.Consent`.

    `sender` is an email as it was received, or, with `did`, a DID that the sender's server has signed. Only
    the transport knows which: a mail may have the text of a DID where an email is due.
    """

    sender: str
    did: bool = False


class Disclose(msgspec.Struct, frozen=True):
    """Ask a handshake book for the terms on which it lets somebody in; the answer is `Terms` or None.

    `ids` are handshake ids of one sender, best first. A revocation and an unanswered request are None, like a
    sender whom the book does not know.
    """

    ids: tuple[str, ...]
