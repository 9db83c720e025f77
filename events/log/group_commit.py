"""Group commit: concurrent appends share one transaction and one sync.

Entries are placed on the event loop; a thread writes and syncs all of them at once. What is appended
meanwhile waits and makes the next group. One append that conflicts fails alone; a failed commit fails its
whole group.

    idle --append--> collecting --next loop turn--> placing --all placed--> committing --done--> idle
                                                                             |  (or placing, if any wait)
                                                          failure: recover, look up what is there, go on
                                                          an event id was taken: again, one by one
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import msgspec

from events.errors import Busy, Conflict, MailioError, StorageUnavailable
from events.event import Recorded
from events.log.entry import Entry

MAX_WAITING: Final = 20_000
"""Appends that may wait for their group: about a second's work of one core."""

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""State bytes that may wait; a single append larger than this still passes when none waits."""

MAX_GROUP: Final = 256
"""Events per transaction, beyond its first append: bounds how long it takes (about 5 ms)."""

MAX_GROUP_BYTES: Final = 4 * 1024 * 1024
"""State bytes per transaction, beyond its first append."""


class Journal(Protocol):
    """A transaction at a time on the store.

    Every method raises StorageUnavailable when the store fails, CorruptRecord when it is damaged.
    """

    def begin(self) -> None:
        """Begin a transaction; after a failure, recover first."""

    def write(self, entry: Entry) -> list[Recorded]:
        """Take an entry in whole or not at all.

        Raises VersionConflict or AlreadyAnswered: the transaction then stands as before.
        """

    def commit(self) -> None:
        """Make the transaction durable. The one method that runs outside the event loop.

        Raises Conflict when an event id was given before, of which entry only one that is alone can tell.
        """

    def recover(self) -> None:
        """Roll back what is open and take the head from the store."""

    def find(self, entry: Entry) -> list[Recorded] | None:
        """Return an entry's records if the store holds them."""


class _Waiting(msgspec.Struct, eq=False):
    entry: Entry
    done: asyncio.Future[list[Recorded]]


class _Written(msgspec.Struct, eq=False):
    """What became of an entry in the open transaction.

    A conflict is told only after the commit: it may be one with a neighbour that is not durable yet.
    """

    waiting: _Waiting
    outcome: list[Recorded] | Conflict


class GroupCommitter:
    """Gathers the appends of one event loop into groups. `published` hears each durable group, in order."""

    def __init__(self, journal: Journal, published: Callable[[Sequence[Recorded]], None]) -> None:
        self._journal = journal
        self._published = published
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._group: list[_Written] = []
        self._singly = 0
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-commit")

    async def append(self, entry: Entry) -> list[Recorded]:
        """Return when the entry is durable.

        Raises VersionConflict, AlreadyAnswered, StorageUnavailable, or Busy when too much is waiting. A
        caller that is cancelled while its group commits can't know: the entry may become durable.
        """
        if self._waiting and self._is_full(entry):
            raise Busy("too busy, try again later", f"{len(self._waiting)} appends wait for the disk")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += entry.size
        if not self._running:
            self._running = True
            self._idle.clear()
            loop.call_soon(self._next_group)
        return await waiting.done

    async def drain(self) -> None:
        """Wait until nothing waits, then stop the thread. Nothing may be appended afterwards."""
        await self._idle.wait()
        self._thread.shutdown()

    def _is_full(self, entry: Entry) -> bool:
        return len(self._waiting) >= MAX_WAITING or self._waiting_bytes + entry.size > MAX_WAITING_BYTES

    def _next_group(self) -> None:
        """Write the next group and send it to be committed; a group without a survivor needs no commit."""
        while self._waiting:
            chosen = self._choose()
            try:
                durable = self._write(chosen)
            except Exception as error:  # noqa: BLE001 - told to every caller of the group, a bug also to the loop
                self._give_up(chosen, error)
                continue
            if not durable:
                loop = asyncio.get_running_loop()
                loop.run_in_executor(self._thread, self._journal.commit).add_done_callback(self._finish)
                return
            self._settle(self._group)
        self._running = False
        self._idle.set()

    def _choose(self) -> list[_Waiting]:
        """Take from the queue what fits a group; callers who gave up meanwhile are left out."""
        chosen: list[_Waiting] = []
        size = count = 0
        most = 1 if self._singly else MAX_GROUP
        self._singly = max(0, self._singly - 1)
        while self._waiting and count < most:
            head = self._waiting[0]
            if chosen and size + head.entry.size > MAX_GROUP_BYTES:
                break
            self._waiting.popleft()
            self._waiting_bytes -= head.entry.size
            if not head.done.cancelled():
                size += head.entry.size
                count += head.entry.count
                chosen.append(head)
        return chosen

    def _write(self, chosen: Sequence[_Waiting]) -> bool:
        """Place the group; a conflict fails alone. Return whether nothing is left to be committed."""
        self._group = []
        self._journal.begin()
        for waiting in chosen:
            try:
                self._group.append(_Written(waiting, self._journal.write(waiting.entry)))
            except Conflict as conflict:
                self._group.append(_Written(waiting, conflict))
        if any(isinstance(written.outcome, list) for written in self._group):
            return False
        self._journal.recover()
        return True

    def _finish(self, commit: asyncio.Future[None]) -> None:
        """Tell subscribers and writers how the commit went, then go on with those who wait."""
        group, self._group = self._group, []
        error = commit.exception()
        try:
            if error is None:
                self._settle(group)
            elif isinstance(error, Conflict):
                self._find_culprit(group, error)
            else:
                self._find_out(group, error)
        finally:
            self._next_group()

    def _find_culprit(self, group: Sequence[_Written], conflict: Conflict) -> None:
        """Write the entries of a group again, one by one: whose event id is taken then fails alone."""
        waiting = [written.waiting for written in group]
        try:
            self._journal.recover()
        except MailioError as error:
            self._refuse(waiting, error)
            return
        if len(group) == 1:
            self._settle([_Written(waiting[0], conflict)])
            return
        self._singly = len(group)
        self._waiting.extendleft(reversed(waiting))
        self._waiting_bytes += sum(each.entry.size for each in waiting)

    def _settle(self, group: Sequence[_Written]) -> None:
        """Everything in the group stands as it was written."""
        self._published([r for w in group if isinstance(w.outcome, list) for r in w.outcome])
        for written in group:
            done = written.waiting.done
            if done.done():
                continue
            if isinstance(written.outcome, list):
                done.set_result(written.outcome)
            else:
                done.set_exception(written.outcome)

    def _find_out(self, group: Sequence[_Written], error: BaseException) -> None:
        """Look up what is in the store: a commit that reported an error may have come to pass."""
        durable: list[_Written] = []
        lost: list[_Waiting] = []
        try:
            self._journal.recover()
            for written in group:
                records = (
                    self._journal.find(written.waiting.entry) if isinstance(written.outcome, list) else None
                )
                if records:
                    durable.append(_Written(written.waiting, records))
                else:
                    lost.append(written.waiting)
        except MailioError as again:
            durable, lost, error = [], [written.waiting for written in group], again
        self._settle(durable)
        self._refuse(lost, error)

    def _give_up(self, chosen: Sequence[_Waiting], error: BaseException) -> None:
        """Nothing of the group was committed: roll back and say so to all of it."""
        if not isinstance(error, StorageUnavailable):
            context = {"message": "a group of appends failed by a fault of the program", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        self._group = []
        try:
            self._journal.recover()
        except MailioError as again:
            error = again
        self._refuse(chosen, error)

    @staticmethod
    def _refuse(refused: Sequence[_Waiting], error: BaseException) -> None:
        """Give each caller an exception, and so a traceback, of its own."""
        private = error.private if isinstance(error, MailioError) else repr(error)
        for waiting in refused:
            if not waiting.done.done():
                waiting.done.set_exception(StorageUnavailable("the log cannot be written now", private))
