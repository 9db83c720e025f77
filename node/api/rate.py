"""The rates of the HTTP door (wire spec section 3.8).

Keys are what an asker can't choose: the address of the socket or of a trusted proxy's client, or the
account of a verified token; never headers and cookies as in the reference server (section 10.3, S20).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from events.errors import Misconfigured
from events.log.log import Clock
from node.rate import Limiter, Rate
from node.settings import HttpSettings


class Cost(StrEnum):
    """What a route costs the node or gives away, hence which rate it has."""

    ORDINARY = "ordinary"
    NONCE = "nonce"
    COSTLY = "costly"
    PEER = "peer"


NONCE_RATE: Final = Rate(1.0, 10)
"""One a second (wire spec section 3.8); a page that opens several tabs may ask for them at once."""

COSTLY_RATE: Final = Rate(1.0, 10)
"""Routes that compute scrypt or tell whether an email is known (section 10.3, S13): slower to abuse."""

PEER_RATE: Final = Rate(200.0, 1_000)
"""What one address may ask for other nodes, unless settings say otherwise."""

FAILURE_RATE: Final = Rate(0.2, 10)
"""Wrong passwords of one account from one address: guessing gets 17,000 tries a day, a typo ten at once."""


class Limits:
    """All rates of the HTTP door."""

    def __init__(self, settings: HttpSettings, clock: Clock, peers: Rate = PEER_RATE) -> None:
        """`peers` is the rate of one address on the routes for other nodes.

        Raise Misconfigured for rates that let nobody in.
        """
        if settings.requests_per_second <= 0 or settings.request_burst < 1:
            raise Misconfigured("http.requests_per_second and http.request_burst: numbers above 0")
        ordinary = Rate(settings.requests_per_second, settings.request_burst)
        self.by_client = {
            Cost.ORDINARY: Limiter(clock, ordinary),
            Cost.NONCE: Limiter(clock, NONCE_RATE),
            Cost.COSTLY: Limiter(clock, COSTLY_RATE),
            Cost.PEER: Limiter(clock, peers),
        }
        self.by_account = Limiter(clock, ordinary)
        self.failures = Limiter(clock, FAILURE_RATE)
