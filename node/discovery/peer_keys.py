"""The keys by which other servers' signatures are checked: DNS says them, and the log keeps what it said.

A key counts while DNS answers with it, and not a moment longer: when a signature was made is only its
signer's word, so a grace for old ones would be a grace for whoever stole the key. A peer that changes its
key in order publishes the old one as long as it wants it to be believed (docs/keys.md).
"""

from __future__ import annotations

from functools import reduce
from typing import Final

import msgspec

from events.errors import NotFound
from events.log.log import Clock, Log, Origin, Write
from events.peer import STREAM, KeySpan, KeysUnstable, PeerState, evolve, key_spans, published
from node.crypto.base64_text import to_base64
from node.discovery.domains import Domains, NameAsked
from node.discovery.remembered import Remembered
from node.rate import Limiter, Rate, TooManyRequests

CAPACITY: Final = 10_000
"""Peers whose noted keys are in memory; about 300 bytes each. The others are read from the log again."""

NEW_PEERS: Final = Rate(1.0, 100)
"""New domains whose keys are kept, a second: one wildcard in a zone is as many domains as one likes."""

TRIES: Final = 3
"""How often an answer is noted anew because another one was noted meanwhile."""

_ORIGIN: Final = Origin(actor="discovery")


class _Noted(msgspec.Struct, frozen=True):
    """A peer's state in the log. `kept`: it says all that the answer said."""

    state: PeerState
    kept: bool

    def says(self, keys: tuple[str, ...]) -> bool:
        return self.kept and {key for key, _ in self.state.live} == set(keys)


class DnsPeerKeys:
    """Implements `node.mtp.ports.PeerKeys`: each key given out is in the log, but for a flood of domains."""

    def __init__(self, domains: Domains, log: Log, clock: Clock) -> None:
        self._domains = domains
        self._log = log
        self._clock = clock
        self._noted: Remembered[_Noted] = Remembered(CAPACITY)
        self._new_peers = Limiter(clock, NEW_PEERS)

    async def of(self, domain: str, refresh: bool = False) -> tuple[bytes, ...]:
        """Return the server's 32-byte Ed25519 keys, those seen last first.

        `domain` is the server's own name: the `senderDomain`, or the host of an endpoint. `refresh` asks DNS
        again, at most once in `discovery.force_seconds` for a domain. Raises NotFound when it has no Mailio
        record for certain, InvalidInput, DnsUnavailable, MalformedRecord, KeysUnstable, Busy,
        StorageUnavailable.
        """
        asked = await self._domains.keys_at(domain, force=refresh)
        asked.answer.require()
        asked.reading.require()
        since = dict((await self._note(asked)).live)
        keys = asked.reading.keys
        if not keys:
            raise NotFound("no Mailio DNS record found", asked.server)
        return tuple(sorted(keys, key=lambda key: since.get(to_base64(key), 0), reverse=True))

    async def close(self) -> None:
        """Stop what is under way."""
        await self._noted.close()

    async def _note(self, asked: NameAsked) -> PeerState:
        """See that the log says what the answer says. Raises KeysUnstable."""
        keys = tuple(map(to_base64, asked.reading.keys))
        known = self._noted.get(asked.server)
        if known is not None and known.says(keys):
            return known.state
        for _ in range(TRIES):
            known = await self._noted.ask(asked.server, lambda: self._written(asked, keys))
            if known.says(keys) or not known.kept:
                return known.state
        raise KeysUnstable(asked.server)

    async def _written(self, asked: NameAsked, keys: tuple[str, ...]) -> _Noted:
        """Read what the log says of the peer, and append what is new. One at a time for each peer."""
        domain = asked.server
        stream = STREAM + domain
        records = await self._log.stream(stream)
        state = reduce(evolve, (record.event for record in records), PeerState())
        events = published(state, domain, keys, self._clock.now(), validated=asked.answer.validated)
        if not events:
            return _Noted(state, kept=True)
        if not records and not self._has_room():
            return _Noted(state, kept=False)
        await self._log.append(Write(stream, tuple(events), len(records)), origin=_ORIGIN)
        return _Noted(reduce(evolve, events, state), kept=True)

    def _has_room(self) -> bool:
        try:
            self._new_peers.take("")
        except TooManyRequests:
            return False
        return True


async def key_history(log: Log, domain: str) -> list[KeySpan]:
    """Return which keys a server published since it is known, and when, in order of first sight.

    `domain` is in ASCII and lower case.
    """
    return key_spans(record.event for record in await log.stream(STREAM + domain))
