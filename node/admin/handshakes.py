"""What an operator may see and do of handshakes: read a book, make a link. Never speak for an owner.

Whom an owner lets in is signed with the owner's key, which the node does not have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from actors.messages import Inspect
from events.errors import InvalidInput, NotFound
from events.handshake import Book, Terms
from events.identity import SenderNames, handshake_id
from events.log.log import Origin
from events.mailbox import Mailbox
from node.core import Core

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

_OPERATOR = Origin(actor="operator")


async def handshake_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List an owner's book, newest first, and the links that are open."""
    owner = await _owner(core, arguments)
    book = await _book(core, owner)
    entries = sorted(book.entries.values(), key=lambda terms: terms.created, reverse=True)
    offers = [
        {"id": offer.id, "created": offer.created, "expires": offer.expires}
        for offer in await core.offers.open(owner)
    ]
    names = await _names(core, owner)
    yield {"handshakes": [_shown(owner, terms, names) for terms in entries], "offers": offers}


async def handshake_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show what an owner's book says of one sender, and which entry decides."""
    owner = await _owner(core, arguments)
    sender = _text(arguments, "sender")
    book = await _book(core, owner)
    terms = book.entries.get(sender) or book.entries.get(_deciding(book, sender))
    if terms is None:
        raise NotFound("the book says nothing of this sender: a stranger")
    yield _shown(owner, terms, await _names(core, owner))


async def handshake_offer(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Make a link for an owner; the log says that it was the operator."""
    owner = await _owner(core, arguments)
    yield {"link": await core.offers.make(owner, _OPERATOR)}


async def handshake_withdraw(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Withdraw an open link of an owner."""
    owner, ident = await _owner(core, arguments), _text(arguments, "id")
    await core.offers.withdraw(owner, ident, _OPERATOR)
    yield {"id": ident, "withdrawn": True}


async def handshake_default(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show what the node says to senders whom an owner's book does not know, signed with its key."""
    yield core.server_handshake()


async def _owner(core: Core, arguments: Arguments) -> str:
    return (await core.accounts.find(_text(arguments, "name"))).address


async def _book(core: Core, owner: str) -> Book:
    book = await core.actors.ask("handshake", owner, Inspect())
    assert isinstance(book, Book)
    return book


def _deciding(book: Book, sender: str) -> str:
    """Return the id of the entry that decides about a sender, without email hashes."""
    names = (SenderNames.of_did if sender.startswith("did:") else SenderNames.of_email)(sender)
    return book.consent(
        [handshake_id(book.owner, name) for name in names.exact],
        against=[handshake_id(book.owner, name) for name in names.against],
        domain=handshake_id(book.owner, names.domain),
    ).handshake


async def _names(core: Core, owner: str) -> dict[str, str]:
    """Return the correspondents of a mailbox by handshake id: an id is a hash, and tells no name."""
    box = await core.actors.ask("mailbox", owner, Inspect())
    assert isinstance(box, Mailbox)
    return {handshake_id(owner, name): name for name in box.correspondents}


def _shown(owner: str, terms: Terms, names: Mapping[str, str]) -> Answer:
    return {
        "id": terms.id,
        "status": terms.status,
        "sender": names.get(terms.id) or terms.sender(owner),
        "type": terms.type,
        "level": terms.level,
        "signupSubType": terms.subtype,
        "frequencyMinutes": terms.frequency_minutes,
        "created": terms.created,
    }


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is missing")
    return value
