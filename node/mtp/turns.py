"""How much of the node a peer may have at once: by the address that it comes from, then by its domain.

The domain of a request is a claim until its signature holds. Whatever is done before that is counted against
the address; a request that turns out to be no peer's counts there once more, as a failure. So nobody can use
up what belongs to another domain by claiming to be it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from events.errors import Busy
from events.log.log import Clock
from node.mtp.limits import MtpSettings
from node.rate import Limiter, Rate, TooManyRequests

FAILURE_RATE: Final = Rate(1.0, 60)
"""Requests of one address whose signature does not hold, or that are no requests. A peer that rotates its key
before DNS says so fails for some minutes; whoever tries things out is told to wait."""

LOOKUP_RATE: Final = Rate(10.0, 500)
"""Emails and owners that one peer may ask about: messages to ten new people a second, and a mailing list at
once. Each asked email costs the asker a scrypt hash, and us one look into the directory."""

ADDRESSES: Final = 4
"""What one address may hold at once is this part of `mtp.at_once_bytes`, or one message if that is more. Only
bytes that came count: announcing much and sending little takes room from nobody."""

Grow = Callable[[int], None]
"""Told how many bytes have come."""

WAIT_MS: Final = 1_000
"""When to come back after too many at once."""


class Turns:
    """Counts what is under way, and how often somebody came."""

    def __init__(self, settings: MtpSettings, clock: Clock) -> None:
        self._settings = settings
        self._peers = Limiter(clock, Rate(settings.requests_per_second, settings.request_burst))
        self._failures = Limiter(clock, FAILURE_RATE)
        self._lookups = Limiter(clock, LOOKUP_RATE)
        self._at_once: Counter[str] = Counter()
        self._of_address: Counter[str] = Counter()
        self._bytes = 0

    @contextlib.contextmanager
    def of_address(self, client: str) -> Iterator[Grow]:
        """Hold room for one request of a client address; tell what is given how many bytes have come.

        Raises TooManyRequests for an address with many failures or requests. Growing raises Busy when the
        node holds too much, or holds too much of this address.
        """
        self._failures.check(client)
        held = 0

        def grow(size: int) -> None:
            nonlocal held
            held += size
            self._bytes += size
            self._of_address[client] += size
            share = max(self._settings.message_bytes, self._settings.at_once_bytes // ADDRESSES)
            if self._bytes > self._settings.at_once_bytes or self._of_address[client] > share:
                raise Busy("too many messages at once, try again later")

        try:
            with self._one(f"address {client}", self._settings.address_requests_at_once):
                yield grow
        finally:
            self._bytes -= held
            self._of_address[client] -= held
            if not self._of_address[client]:
                del self._of_address[client]

    @contextlib.contextmanager
    def of_peer(self, peer: str) -> Iterator[None]:
        """Hold room for one verified request of a peer. Raises TooManyRequests."""
        with self._one(f"peer {peer}", self._settings.requests_at_once):
            self._peers.take(peer)
            yield

    def failed(self, client: str) -> None:
        """Note that a request from this address was nobody's."""
        with contextlib.suppress(TooManyRequests):
            self._failures.take(client)

    def asked(self, peer: str, number: int) -> None:
        """Count what a peer asks about. Raises TooManyRequests."""
        for _ in range(number):
            self._lookups.take(peer)

    @contextlib.contextmanager
    def _one(self, who: str, most: int) -> Iterator[None]:
        if self._at_once[who] >= most:
            raise TooManyRequests(WAIT_MS)
        self._at_once[who] += 1
        try:
            yield
        finally:
            self._at_once[who] -= 1
            if not self._at_once[who]:
                del self._at_once[who]
