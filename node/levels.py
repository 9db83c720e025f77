"""The level below which an owner's handshakes do not open the inbox. The node may demand more."""

from __future__ import annotations

from typing import Protocol

from actors import handshake
from actors.messages import Execute, Inspect
from events.consent import Level
from events.errors import InvalidInput
from events.handshake import Book, SetMinimumLevel
from events.log.log import Origin


class Actors(Protocol):
    """Where handshake books are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


async def minimum_level(actors: Actors, owner: str) -> Level:
    """Return what the owner (an address) demands; the node may demand more."""
    book = await actors.ask(handshake.KIND, owner, Inspect())
    assert isinstance(book, Book)
    return book.minimum_level


async def set_minimum_level(actors: Actors, owner: str, level: str, origin: Origin) -> Level:
    """Demand a level from the next message on. Raises InvalidInput for one that there is not."""
    if level not in set(Level):
        raise InvalidInput(f"the level is one of {', '.join(Level)}")
    await actors.ask(handshake.KIND, owner, Execute(SetMinimumLevel(Level(level)), origin))
    return Level(level)
