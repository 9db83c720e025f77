"""Failpoints: named places between two durable steps, at which a test lets the process die.

`after(name)` decorates the function behind whose return the place is. A failpoint that is off is nothing: the
decorator returns the function that it was given, so nothing is called, looked up or compared later. One
failpoint is on when the process was started with `TEST_MAILIO_FAILPOINT=<name>:<hit>`; it says so on standard
error, and at that hit the process sends itself SIGKILL. Nothing else, no setting, file or request, can turn
one on, and a process can't turn one on for itself: the variable is read once, when this module is imported.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar, cast

VARIABLE: Final = "TEST_MAILIO_FAILPOINT"
"""The environment variable that turns one failpoint on."""

NAMES: Final[Mapping[str, str]] = {
    "keys-written": "the node's key file is linked to its name and synced",
    "key-aside-written": "the node's key file has its content under a temporary name",
    "log-created": "the empty log file has its name",
    "log-opened": "the log's tables are there and its end is checked",
    "segment-created": "a new segment file exists, its name is not synced",
    "segment-begun": "a new segment file's name is synced",
    "blob-written": "a batch of blobs is written, not synced",
    "blob-synced": "a batch of blobs is synced, nobody was told",
    "index-inserted": "blobs are in the open transaction of the index",
    "index-written": "the index of blobs is committed",
    "mark-written": "the mark of the index has its content under a temporary name",
    "mark-replaced": "the mark of the index is in place",
    "event-placed": "an event has its place in a group that is not written yet",
    "event-committed": "a group of events is committed, nobody was told",
    "mail-accepted": "a mail's event is durable, the session was not answered",
    "session-answered": "a session got its answer to RCPT or to the data",
    "message-promised": "a client's message and its deliveries are durable, the client was not answered",
    "attempt-recorded": "attempts to deliver are durable, nobody was dialled",
    "peer-message-admitted": "a peer's message is let in, nothing of it is stored",
    "receipt-signed": "a peer's message is durable, its receipt was not sent",
    "attempt-answered": "a peer has answered an attempt, its end is not durable",
    "attempt-concluded": "the end of an attempt is durable, the next one was not begun",
    "report-recorded": "what a peer reports is durable, the peer was not answered",
    "client-blobs-stored": "what a client wrote is stored, its event is not",
    "client-event-stored": "the event of a client's write is durable, the view does not show it",
    "client-write-shown": "the view shows a client's write, the client was not answered",
    "mail-read": "a mail's document and attachments are stored, its filing is not",
    "reaction-appended": "an actor's answer is durable, the dispatcher was not told",
    "reactions-appended": "an actor's answers to a batch are durable, the dispatcher was not told",
    "snapshot-taken": "a snapshot is written",
    "view-inserted": "a batch is in the open transaction of a view",
    "view-written": "a batch of a view is committed",
    "view-log-moved": "a view's write-ahead log was moved into its file",
    "checkpoint-written": "the dispatcher's checkpoint has its content under a temporary name",
    "checkpoint-moved": "the dispatcher's checkpoint is in place",
    "rebuild-built": "a view is rebuilt aside and compared (in the command's process)",
    "swap-completed": "the rebuilt file has everything and is synced",
    "swap-renamed": "the rebuilt file has the name of the next generation",
    "swap-linked": "the link to the next generation exists under a temporary name",
    "swap-pointed": "the view's link points to the next generation",
    "swap-done": "the old generation is removed",
    "blobs-closed": "the blob store is closed, the log is not (at a stop)",
}
"""Every failpoint: the state of things when it is reached."""

Function = TypeVar("Function", bound=Callable[..., Any])


def after(name: str) -> Callable[[Function], Function]:
    """Name the place behind a function's successful return; gives the function itself unless it is on."""
    if name not in NAMES:
        raise TypeError(f"failpoint {name} is not in the list")
    return _bound if name == _ARMED else _unchanged


def _unchanged(function: Function) -> Function:
    return function


def _bound(function: Function) -> Function:
    """Return the function with the counted blow behind it."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*arguments: Any, **named: Any) -> Any:
            result = await function(*arguments, **named)
            _hit()
            return result

        return cast("Function", waiting)

    @functools.wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        _hit()
        return result

    return cast("Function", plain)


def _hit() -> None:
    if next(_HITS) == _AT:
        _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _parsed(text: str) -> tuple[str, int]:
    """Return (name, hit) of the variable's text, ("", 0) of none; ends the process when it is wrong."""
    name, _, hit = text.partition(":")
    if not text:
        return "", 0
    if name not in NAMES or not hit.isdecimal() or not int(hit):
        sys.exit(
            f"{VARIABLE}={text!r}: use <name>:<hit> with a name from events/log/failpoints.py, or unset it"
        )
    print(f"TEST ONLY: this process kills itself at {name}, hit {hit} ({VARIABLE})", file=sys.stderr)  # noqa: T201
    return name, int(hit)


_ARMED, _AT = _parsed(os.environ.get(VARIABLE, ""))
_HITS = itertools.count(1)
# Counting is one call of C code, so that hits in several threads are told apart.
