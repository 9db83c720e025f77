"""Who has sent a request: nothing that a peer says counts before this module has let it through.

In this order: the form, the domain that is claimed, its keys from DNS, the signature over the bytes as
received, the JSON against these bytes, the time. What a stranger can make the node do before its signature
holds is to read one body, look up one domain, and verify once or twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from events.errors import Busy, InvalidInput, MailioError, NotFound
from events.log.log import Clock
from node.discovery.domains import checked_domain
from node.discovery.record import MalformedRecord
from node.mtp.envelope import InvalidEnvelope, Kind, Opened, open_request
from node.mtp.ports import PeerKeys
from node.mtp.working import worked
from node.rate import Limiter, Rate, TooManyRequests

KEYS_MS: Final = 5_000
"""How long a peer's keys are used without asking again: the least that a DNS answer is used for anyway."""

KEYS_KEPT: Final = 10_000
"""Peers whose keys are remembered; 300 bytes each."""

REFRESH_RATE: Final = Rate(1 / 60, 1)
"""Forced lookups of one domain because of a wrong signature: a rotated key is found at once, and forgers
can't have the node ask a domain's name servers more than once a minute."""


class KeysUnavailable(Busy):
    """DNS can't say now which keys the sender has: the same request may succeed later."""

    mtp = "4.4.3"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A request that `peer` (a domain in ASCII form) has signed, and what it says."""

    peer: str
    payload: dict[str, Any]
    signed: bytes
    signature: bytes
    key: bytes


class Verifier:
    """Verifies requests against the keys of their senders' domains."""

    def __init__(self, keys: PeerKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, tuple[int, tuple[bytes, ...]]] = OrderedDict()
        self._refreshes = Limiter(clock, REFRESH_RATE)

    async def verify(self, kind: Kind, body: bytes) -> Verified:
        """Open a request and see that it is its sender's.

        Raises InvalidEnvelope (400) for what is not, LimitExceeded (413) for what is beyond bounds, and
        KeysUnavailable (503) when DNS does not answer.
        """
        opened = await worked(len(body), open_request, kind, body)
        peer = _domain(opened.sender_domain)
        key = await self._signer(opened, peer)
        await worked(len(body), opened.require_covered)
        return Verified(
            peer=peer, payload=opened.payload, signed=opened.signed, signature=opened.signature, key=key
        )

    async def _signer(self, opened: Opened, peer: str) -> bytes:
        """Return the key that signed; asks DNS anew, once, when no known one did."""
        known = await self._keys_of(peer)
        if (key := await _matching(opened, known)) is not None:
            return key
        if self._may_refresh(peer):
            fresh = await self._keys_of(peer, refresh=True)
            if fresh != known and (key := await _matching(opened, fresh)) is not None:
                return key
        raise InvalidEnvelope("signature verification failed", f"no key of {peer} has signed")

    def _may_refresh(self, peer: str) -> bool:
        try:
            self._refreshes.take(peer)
        except TooManyRequests:
            return False
        return True

    async def _keys_of(self, peer: str, *, refresh: bool = False) -> tuple[bytes, ...]:
        until, keys = self._known.get(peer, (0, ()))
        now = self._clock.now()
        if refresh or not now < until <= now + KEYS_MS:
            keys = await self._asked(peer, refresh)
            self._known[peer] = (now + KEYS_MS, keys)
            while len(self._known) > KEYS_KEPT:
                self._known.popitem(last=False)
        return keys

    async def _asked(self, peer: str, refresh: bool) -> tuple[bytes, ...]:
        try:
            return await self._keys.of(peer, refresh)
        except (NotFound, MalformedRecord) as error:
            raise InvalidEnvelope("no Mailio DNS record found", str(error)) from error
        except InvalidInput as error:
            raise InvalidEnvelope("invalid domain", str(error)) from error
        except MailioError as error:
            if not error.temporary:
                raise
            raise KeysUnavailable("no Mailio DNS record found", str(error)) from error


def _domain(claimed: str) -> str:
    """Return the sender's domain in ASCII form; `localhost`, addresses and ports are none (S3)."""
    try:
        return checked_domain(claimed)
    except InvalidInput as error:
        raise InvalidEnvelope("invalid domain", str(error)) from None


async def _matching(opened: Opened, keys: Sequence[bytes]) -> bytes | None:
    for key in keys:
        if await worked(len(opened.signed), opened.is_signed_by, (key,)):
            return key
    return None


class Freshness:
    """Refuses what was not said just now."""

    def __init__(self, clock: Clock, window_seconds: int) -> None:
        """0 seconds: whenever something was said, it counts."""
        self._clock = clock
        self._window = window_seconds * 1_000

    def require(self, timestamp: int) -> None:
        """Raise InvalidInput when `timestamp` (ms) is too far from now."""
        off = timestamp - self._clock.now()
        if self._window and abs(off) > self._window:
            word = "ahead of" if off > 0 else "behind"
            raise InvalidInput(
                "the request is not current: make it anew", f"its time is {abs(off) // 1000} s {word} ours"
            )
