"""The failpoints of `events.log.failpoints` in a simulation: a node dies there, and the process lives on.

`install`, called before anything of the node is imported, gives the decorated functions a place where a life may
end. It is for processes that do nothing but simulate (`tests.simulation.workers`); elsewhere nobody dies so.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from events.log import failpoints
from tests.simulation.loop import WORLD, Dead

Function = TypeVar("Function", bound=Callable[..., Any])

ELSEWHERE = frozenset(
    name
    for name in failpoints.NAMES
    if name.startswith(("rebuild-", "swap-")) or name in {"session-answered", "view-log-moved"}
)
"""Failpoints that no story comes to: rebuilding in place, SMTP, a view of 32 MiB."""

NAMES = tuple(name for name in failpoints.NAMES if name not in ELSEWHERE)

_ARMED: dict[str, tuple[str, int, Callable[[str], None]]] = {}


def arm(world: str, name: str, hit: int, die: Callable[[str], None]) -> None:
    """Let a life end when it comes to the failpoint `name` for the `hit`th time from now."""
    _ARMED[world] = (name, hit, die)


def disarm() -> None:
    """Let nobody die any more."""
    _ARMED.clear()


def after(name: str) -> Callable[[Function], Function]:
    """Stand in for `events.log.failpoints.after`."""

    def bound(function: Function) -> Function:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*arguments: Any, **named: Any) -> Any:
                result = await function(*arguments, **named)
                if _hit(name):
                    await asyncio.get_running_loop().create_future()
                return result

            return cast("Function", waiting)

        @functools.wraps(function)
        def plain(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            if _hit(name):
                # What this unwinds belongs to a life that is over, and to files that nobody reads again.
                raise Dead(name)
            return result

        return cast("Function", plain)

    return bound


def _hit(name: str) -> bool:
    """Whether this life ends here; then it is over when this returns."""
    world = WORLD.get()
    wanted, left, die = _ARMED.get(world, ("", 0, None))
    if wanted != name or die is None:
        return False
    if left > 1:
        _ARMED[world] = (wanted, left - 1, die)
        return False
    del _ARMED[world]
    die(name)
    return True


def install() -> None:
    """Take the place of the real decorator, for all modules that are imported from now on."""
    failpoints.after = after
