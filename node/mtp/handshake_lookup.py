"""What a peer is told about handshakes (wire spec section 3.5): those of its own users, and nothing else.

A handshake says who knows whom. The reference server gives it to every server that names the two, and any
document besides (section 10.3, S7). Here a peer may only ask what an owner says about a sender of the peer's
own, and hears only that the owner has let the sender in. No such owner, no handshake, one that was revoked
or never answered, a sender of somebody else: all of them are the same answer after the same questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from actors import handshake
from actors.messages import Disclose
from events.errors import InvalidInput, LimitExceeded
from events.handshake import Terms
from events.identity import (
    Did,
    SenderNames,
    email_domain,
    handshake_id,
    is_address,
    normalise_domain,
    normalise_email,
    web_did,
)
from events.log.log import Clock
from node.crypto.handshakes import SIGNATURE_SCHEME
from node.discovery.domains import Discovered
from projections.directory import AccountEntry

MOST_LOOKUPS: Final = 20
"""Owners that one request may ask about: a mail has that many recipients at one node at most, usually one."""

_TEXTS: Final = 600
"""Characters of any text in a request; the longest that means something is a DID (512)."""


class Directory(Protocol):
    """Where owners are found."""

    async def by_address(self, address: str) -> AccountEntry | None:
        """Find an account by its address."""

    async def by_email_hash(self, email_hash: str) -> AccountEntry | None:
        """Find an account by the hash of its email."""


class Actors(Protocol):
    """Where handshake books are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class EmailHashes(Protocol):
    """Where email hashes are computed."""

    async def hash(self, email: str) -> str:
        """Return the hash of wire spec section 1.8."""


class Domains(Protocol):
    """Where DNS says which server a domain's users are on."""

    async def look_up(self, domain: str) -> Discovered:
        """Look a domain up."""


class _Element(msgspec.Struct, rename="camel"):
    """One owner that is asked about. `id` is the handshake id that the peer expects, if it says."""

    id: str = ""
    address: str = ""
    email_hash: str = ""


class _Request(msgspec.Struct, rename="camel"):
    """The members of the payload that mean something here; envelope and header are the door's."""

    handshake_lookups: list[_Element]
    sender_address: str
    return_default_server_handshake: bool = False


class _Asked(msgspec.Struct, frozen=True):
    """The sender that is asked about: names under which a book may have it, and what the peer knows of it."""

    names: tuple[str, ...] = ()
    address: str = ""
    email_hash: str = ""


class HandshakeLookup:
    """Answers the lookups of verified peers."""

    def __init__(
        self,
        *,
        directory: Directory,
        actors: Actors,
        hashes: EmailHashes,
        domains: Domains,
        clock: Clock,
        default: Callable[[], dict[str, Any]],
    ) -> None:
        """`default` makes the node's own signed handshake for senders whom nobody has let in."""
        self._directory = directory
        self._actors = actors
        self._hashes = hashes
        self._domains = domains
        self._clock = clock
        self._default = default

    async def answer(self, peer: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `handshakeResponse` to a `handshakeRequest` of the server `peer`, members in CBOR order.

        The caller has verified that `peer` signed this payload. Times of handshakes are floats (wire spec
        Q2). Raises InvalidInput and LimitExceeded for a request that can't be answered, and errors of DNS
        and storage for one that can't be answered now.
        """
        request = _read(payload)
        asked = await self._sender(normalise_domain(peer), request.sender_address)
        found = [await self._found(element, asked) for element in request.handshake_lookups]
        contents = [content for content in found if content is not None]
        if request.return_default_server_handshake and len(contents) < len(found):
            contents.append(_float_time(self._default()["content"]))
        header = {"signatureScheme": SIGNATURE_SCHEME, "timestamp": self._clock.now()}
        return {"lookupHeader": header, "handshakes": _distinct(contents)}

    async def _sender(self, peer: str, sender: str) -> _Asked:
        """Return the sender's names if it is a user of `peer`; a sender of somebody else has none."""
        if is_address(sender):
            # Without a server the address is anybody's: what is asked about is this server's user.
            return _asked(web_did(peer, sender.lower()))
        if "@" not in sender:
            return _sender_did(peer, sender)
        if not await self._is_at(peer, sender):
            return _Asked()
        names = SenderNames.of_email(sender)
        # Computed for everybody: when it is slow must not depend on what is in a book.
        email_hash = await self._hashes.hash(names.email)
        return _Asked((*names.exact, email_hash), email_hash=email_hash)

    async def _is_at(self, peer: str, email: str) -> bool:
        """Whether DNS says that the users of the email's domain are on this server."""
        try:
            found = await self._domains.look_up(email_domain(normalise_email(email)))
        except InvalidInput:
            return False
        return found.require() is not None and found.server == peer

    async def _found(self, element: _Element, asked: _Asked) -> dict[str, Any] | None:
        """Ask one owner's book. Whatever there is or is not, the same questions are asked."""
        owner = await self._owner(element)
        wanted = element.address or element.email_hash
        address = owner.address if owner else _stand_in(wanted)
        ids = tuple(handshake_id(address, name) for name in asked.names)
        terms = await self._actors.ask(handshake.KIND, address, Disclose(ids))
        if not isinstance(terms, Terms) or owner is None or not owner.enabled:
            return None
        return _content(terms, owner, asked) if element.id in {"", terms.id} else None

    async def _owner(self, element: _Element) -> AccountEntry | None:
        """Find the owner, by as many reads when there is none."""
        if element.address:
            return await self._directory.by_address(element.address)
        found = await self._directory.by_email_hash(element.email_hash)
        if found is None:
            await self._directory.by_address(_stand_in(element.email_hash))
        return found


def _read(payload: Mapping[str, Any]) -> _Request:
    try:
        request = msgspec.convert(payload, _Request)
    except msgspec.ValidationError as error:
        raise InvalidInput("failed to lookup handshakes", str(error)) from error
    if len(request.handshake_lookups) > MOST_LOOKUPS:
        raise LimitExceeded(f"a request asks about {MOST_LOOKUPS} owners at most")
    if len(request.sender_address) > _TEXTS or not all(map(_is_answerable, request.handshake_lookups)):
        raise InvalidInput("failed to lookup handshakes", "an element without owner")
    return request


def _is_answerable(element: _Element) -> bool:
    """Whether an element names an owner at all (wire spec section 3.5); who that is does not matter."""
    return 0 < len(element.address or element.email_hash) <= _TEXTS


def _sender_did(peer: str, sender: str) -> _Asked:
    try:
        did = Did.parse(sender)
    except InvalidInput:
        return _Asked()
    return _asked(did, sender) if did.host == peer and did.address else _Asked()


def _asked(did: Did, *more: str) -> _Asked:
    """Name a user of a server: by the DID in its usual form, then as the peer wrote it."""
    names = (str(web_did(did.host, did.address)), *more)
    return _Asked(tuple(dict.fromkeys(names)), address=did.address)


def _stand_in(text: str) -> str:
    """Address of a book that is asked in the place of one that does not exist: nobody has this address."""
    return "0x" + hashlib.sha256(f"stand-in {text}".encode()).hexdigest()[:40]


def _content(terms: Terms, owner: AccountEntry, asked: _Asked) -> dict[str, Any]:
    """Make the content of section 4.2 of what is in the book, in CBOR order.

    Of the sender it says what the peer has asked with: whatever else the owner knows is not the peer's.
    """
    known = {
        "emailHash": terms.sender_email_hash if terms.sender_email_hash == asked.email_hash else "",
        "address": terms.sender_address if terms.sender_address == asked.address else "",
    }
    content = {
        "handshakeId": terms.id,
        "originServer": {"domain": terms.origin_domain},
        "signupSubType": terms.subtype,
        "signupRules": {"frequencyMinutes": terms.frequency_minutes} if terms.frequency_minutes else None,
        "status": terms.status,
        "level": terms.level,
        "ownerPublicKey": owner.signing_key,
        "ownerAddress": owner.address,
        "senderMetadata": {name: text for name, text in known.items() if text} or None,
        "type": terms.type,
        "signatureScheme": SIGNATURE_SCHEME,
        "created": float(terms.created),
    }
    return {name: value for name, value in content.items() if value not in (None, "", 0) or name == "created"}


def _float_time(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "created": float(content["created"])}


def _distinct(contents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what was said before: whoever asks twice learns nothing more."""
    return list({content["handshakeId"]: content for content in contents}.values())
