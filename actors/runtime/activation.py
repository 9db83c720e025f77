"""Virtual actors: named by (kind, key), in memory only while they are used.

An actor always exists; it is activated by its first message and passivated when idle. Per actor the
inbox is bounded, and a full one makes tellers wait (back-pressure). Per system the number of active
actors is bounded: the least recently used idle one makes room.

Failures: an exception in an `ask` is the asker's. An exception in a `tell` is reported (`on_failed_tell`)
and the actor is restarted: a new object, activated again, takes over the waiting messages. After
`ActorLimits.restarts` restarts within the window it is suspended: messages for it are refused with
`Busy` and what waits in its inbox waits until the back-off has passed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec
from pykka._envelope import Envelope

from actors.runtime.loop_actor import INSIDE_ACTOR, LATER, LoopActor, LoopFuture, LoopInbox, report
from events.errors import Busy, NotFound
from events.log.log import Clock

Name = tuple[str, str]
"""Kind and key of a virtual actor."""

Factory = Callable[[str], LoopActor]

EVICTION_PROBES = 16
"""How many of the least recently used actors are looked at to find an idle one before a newcomer waits."""


class ActorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of an actor system. The idle time and scan follow what Orleans settled on."""

    inbox: int = 256
    """Messages that may wait for one actor; at 5 ms each the last one waits little more than a second."""
    full_seconds: float = 5.0
    """How long an ask waits for room before it is refused with Busy: less than an SMTP client waits."""
    active: int = 100_000
    """Actors in memory at once; some 300 MB at 3 KB each."""
    idle_seconds: float = 900.0
    """An actor unused for this long is passivated."""
    sweep_seconds: float = 1.0
    """Pause between two looks for idle actors."""
    sweep_batch: int = 1000
    """Actors passivated per look, so that a sweep holds the loop for some milliseconds at most."""
    restarts: int = 5
    """Restarts of one actor within the window before it is suspended."""
    restart_window_seconds: float = 60.0
    """How far back restarts are counted."""
    suspension_seconds: float = 30.0
    """How long a suspended actor is left alone."""


class FailedTell(msgspec.Struct, frozen=True):
    """A told message that was not handled, and why."""

    kind: str
    key: str
    message: Any
    error: Exception


class _Cell:
    """One active actor: its object (which it supervises), when it was used, how often it failed."""

    __slots__ = (
        "activating",
        "actor",
        "failures",
        "key",
        "kind",
        "suspended_until",
        "system",
        "timer",
        "used",
    )

    def __init__(self, system: ActorSystem, kind: str, key: str) -> None:
        self.system = system
        self.kind = kind
        self.key = key
        self.used = 0
        self.failures: deque[int] | None = None
        self.suspended_until = 0
        self.timer: asyncio.TimerHandle | None = None
        self.activating: asyncio.Task[None] | None = None
        self.actor = self._create()

    def _create(self) -> LoopActor:
        factory = self.system.factories.get(self.kind)
        if factory is None:
            raise NotFound("no such actor", f"no factory for kind {self.kind!r}")
        actor = factory(self.key)
        actor.supervisor = self
        actor.actor_inbox.limit = self.system.limits.inbox
        return actor

    @property
    def idle(self) -> bool:
        return self.activating is None and not self.suspended_until and self.actor.idle

    @property
    def at_work(self) -> bool:
        """Whether it does something now, or is about to; a suspended one does nothing for some time."""
        return not self.idle and not self.suspended_until

    def begin(self) -> None:
        """Launch the object; it gets messages when `on_activate` is through."""
        self.system.activations += 1
        immediate = type(self.actor).on_activate is LoopActor.on_activate
        self.actor.launch(paused=not immediate)
        if not immediate:
            self.activating = self.actor.loop.create_task(self._activate(self.actor))

    async def _activate(self, actor: LoopActor) -> None:
        INSIDE_ACTOR.set(True)
        try:
            await actor.on_activate()
        except Exception as error:  # noqa: BLE001 - goes to those who asked; told messages are kept
            self.activating = None
            self._activation_failed(actor, error)
        else:
            self.activating = None
            actor.resume()
            self.became_idle()

    def _activation_failed(self, actor: LoopActor, error: Exception) -> None:
        told = []
        for envelope in actor.take_waiting():
            if envelope.reply_to is None:
                told.append(envelope)
            else:
                actor.refuse(envelope, error)
        if told:
            self._restart(told)
        else:
            self._discard()
            self.system.forget(self)

    def tell_failed(self, message: Any, error: Exception) -> None:
        """Report the message (it is not tried again) and go on with a fresh object."""
        self.system.on_failed_tell(FailedTell(self.kind, self.key, message, error))
        self._restart(self.actor.take_waiting())

    def _restart(self, waiting: list[Envelope[Any]]) -> None:
        self._discard()
        self.system.restarts += 1
        try:
            self.actor = self._create()
        except Exception as error:  # noqa: BLE001 - each waiting message learns of it
            self._give_up(waiting, error)
            return
        for envelope in waiting:
            self.actor.actor_inbox.admit(envelope)
        if self._too_often():
            self._suspend()
        else:
            self.begin()

    def _discard(self) -> None:
        self.actor.supervisor = None
        self.actor.discard()

    def _give_up(self, waiting: list[Envelope[Any]], error: Exception) -> None:
        self.system.forget(self)
        for envelope in waiting:
            if envelope.reply_to is not None:
                self.actor.refuse(envelope, error)
            else:
                self.system.on_failed_tell(FailedTell(self.kind, self.key, envelope.message, error))

    def _too_often(self) -> bool:
        limits, now = self.system.limits, self.system.clock.now()
        failures = self.failures = self.failures or deque()
        failures.append(now)
        while not now - limits.restart_window_seconds * 1000 <= failures[0] <= now:
            failures.popleft()
        return len(failures) > limits.restarts

    def _suspend(self) -> None:
        seconds = self.system.limits.suspension_seconds
        self.system.suspensions += 1
        self.failures = None
        self.suspended_until = self.system.clock.now() + int(seconds * 1000)
        self._refuse_asks(self.suspended())
        self._resume_later(seconds)
        self.system.notify()

    def suspended(self) -> Busy:
        """Say why messages are refused now."""
        return Busy("this is being repaired, try later", f"{self.kind}/{self.key} failed too often")

    def _refuse_asks(self, error: Exception) -> None:
        for envelope in self.actor.take_waiting():
            if envelope.reply_to is not None:
                self.actor.refuse(envelope, error)
            else:
                self.actor.actor_inbox.admit(envelope)

    def resume_if_due(self) -> None:
        """End a suspension whose time has passed; look again later at one whose time has not."""
        if not self.suspended_until:
            return
        left = self.suspended_until - self.system.clock.now()
        # More is left than there ever was: the clock was set back, and nobody knows how far it had come.
        if 0 < left <= self.system.limits.suspension_seconds * 1000:
            self._resume_later(left / 1000)
            return
        self.suspended_until = 0
        self.begin()

    def _resume_later(self, seconds: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(seconds, self.resume_if_due)

    def became_idle(self) -> None:
        """Tell those who wait for it: newcomers without a place, and `drain`."""
        if self.system.watchers and self.idle:
            self.system.notify()

    async def passivate(self) -> None:
        """Run the hook, then leave memory unless messages have come in between."""
        actor = self.actor
        INSIDE_ACTOR.set(True)
        try:
            await actor.on_passivate()
        except Exception as error:  # noqa: BLE001 - passivation loses nothing, so it goes on
            report(actor.loop, f"{self.kind}/{self.key} failed to passivate", error)
        self.activating = None
        if actor.actor_inbox or actor.actor_inbox.awaited:
            actor.resume()
            return
        self.leave()

    def close(self, error: Exception) -> None:
        """Drop the object, the activation under way and all waiting messages."""
        self.suspended_until = 0
        if self.timer is not None:
            self.timer.cancel()
        if self.activating is not None:
            self.activating.cancel()
        waiting = self.actor.take_waiting()
        self._discard()
        self._give_up(waiting, error)

    def leave(self) -> None:
        """Drop the object. Only for a cell that holds no message."""
        self._discard()
        self.system.passivations += 1
        self.system.forget(self)


class ActorSystem:
    """All virtual actors of a process. Use it on one event loop.

    Counters (plain attributes): `activations`, `passivations`, `restarts`, `suspensions`, `inbox_high_water`;
    `active` is the number of actors in memory.
    """

    def __init__(
        self,
        limits: ActorLimits,
        clock: Clock,
        on_failed_tell: Callable[[FailedTell], None] | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.on_failed_tell = on_failed_tell or _report_failed_tell
        self.factories: dict[str, Factory] = {}
        self.activations = 0
        self.passivations = 0
        self.restarts = 0
        self.suspensions = 0
        self.inbox_high_water = 0
        self.watchers: deque[asyncio.Future[None]] = deque()
        self._cells: OrderedDict[Name, _Cell] = OrderedDict()
        self._accepting = True
        self._passivating: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Number of actors in memory."""
        return len(self._cells)

    def register(self, kind: str, factory: Factory) -> None:
        """Name the function that makes an actor of this kind from its key; it must be cheap and do no I/O."""
        self.factories[kind] = factory

    async def ask(self, kind: str, key: str, message: Any) -> Any:
        """Send a message and return the actor's answer, or raise its exception.

        Raises Busy when the inbox stays full for `limits.full_seconds`, when the actor is suspended, and when
        the system is draining. A cancelled ask may still be carried out.
        """
        cell = self._cells.get((kind, key))
        if cell is not None and cell.idle and self._accepting:
            answer = cell.actor.answer_now(message)
            if answer is not LATER:
                cell.used = self.clock.now()
                self._cells.move_to_end((kind, key))
                return answer
        future: LoopFuture[Any] = LoopFuture()
        envelope = Envelope(message, future)
        if not self._try_deliver(kind, key, envelope):
            try:
                async with asyncio.timeout(self.limits.full_seconds):
                    await self._deliver(kind, key, envelope)
            except TimeoutError:
                raise Busy("too many requests are waiting", f"{kind}/{key} stayed full") from None
        return await future

    async def try_ask(self, kind: str, key: str, message: Any) -> Any:
        """Ask, but raise Busy at once when there is no room."""
        future: LoopFuture[Any] = LoopFuture()
        if not self._try_deliver(kind, key, Envelope(message, future)):
            raise Busy("too many requests are waiting", f"{kind}/{key} is full")
        return await future

    async def tell(self, kind: str, key: str, message: Any) -> None:
        """Send a message without waiting for it to be handled; waits as long as the inbox is full.

        Raises Busy when the actor is suspended and when the system is draining.
        """
        envelope = Envelope(message)
        if not self._try_deliver(kind, key, envelope):
            await self._deliver(kind, key, envelope)

    def _try_deliver(self, kind: str, key: str, envelope: Envelope[Any]) -> bool:
        """Enqueue unless that needs waiting.

        Looking up and putting are one step on the loop, so that no message meets a dead actor.
        """
        cell = self._lookup(kind, key)
        if cell is None or (inbox := cell.actor.actor_inbox).full:
            return False
        inbox.admit(envelope)
        self._note_depth(inbox)
        return True

    async def _deliver(self, kind: str, key: str, envelope: Envelope[Any]) -> None:
        while True:
            cell = self._lookup(kind, key)
            if cell is None:
                await self._watch()
                continue
            inbox = cell.actor.actor_inbox
            if await inbox.room():
                inbox.put_granted(envelope)
                self._note_depth(inbox)
                return

    def _note_depth(self, inbox: LoopInbox) -> None:
        self.inbox_high_water = max(self.inbox_high_water, len(inbox))

    def _lookup(self, kind: str, key: str) -> _Cell | None:
        """Find or activate; None when there is no place for another actor now."""
        if not self._accepting and not INSIDE_ACTOR.get():
            raise Busy("the node is shutting down")
        name = (kind, key)
        cell = self._cells.get(name)
        if cell is None:
            if len(self._cells) >= self.limits.active and not self._evict():
                return None
            cell = _Cell(self, kind, key)
            self._cells[name] = cell
            cell.begin()
        elif cell.suspended_until:
            cell.resume_if_due()
            if cell.suspended_until:
                raise cell.suspended()
        else:
            self._cells.move_to_end(name)
        cell.used = self.clock.now()
        return cell

    def _evict(self) -> bool:
        """Passivate the least recently used idle actor; True if there is a place at once."""
        for _ in range(min(EVICTION_PROBES, len(self._cells))):
            name, cell = next(iter(self._cells.items()))
            if cell.idle:
                self._passivate(cell)
                return len(self._cells) < self.limits.active
            self._cells.move_to_end(name)
        return False

    def sweep(self) -> int:
        """Passivate up to `limits.sweep_batch` actors that are idle for long enough; return how many."""
        now = self.clock.now()
        due = now - int(self.limits.idle_seconds * 1000)
        passivated = 0
        for _ in range(min(self.limits.sweep_batch, len(self._cells))):
            name, cell = next(iter(self._cells.items()))
            if due < cell.used <= now:  # what was used in the future was so before the clock was set back
                break
            self._cells.move_to_end(name)
            if cell.idle:
                self._passivate(cell)
                passivated += 1
        return passivated

    def _passivate(self, cell: _Cell) -> None:
        if type(cell.actor).on_passivate is LoopActor.on_passivate:
            cell.leave()
            return
        cell.actor.pause()
        cell.activating = task = cell.actor.loop.create_task(cell.passivate())
        self._passivating.add(task)
        task.add_done_callback(self._passivating.discard)

    async def dismiss(self, kind: str, key: str) -> None:
        """Take an actor out of memory as soon as it is idle; its next message finds one made anew."""
        while (cell := self._cells.get((kind, key))) is not None and not cell.idle:
            await self._watch()
        if cell is not None:
            self._passivate(cell)

    async def run(self) -> None:
        """Sweep for ever; cancel to end."""
        while True:
            await asyncio.sleep(self.limits.sweep_seconds)
            self.sweep()

    def forget(self, cell: _Cell) -> None:
        """Take a cell off the books (for the cell itself)."""
        if self._cells.get((cell.kind, cell.key)) is cell:
            del self._cells[cell.kind, cell.key]
        self.notify()

    def notify(self) -> None:
        """Let all who wait for a change look again."""
        while self.watchers:
            watcher = self.watchers.popleft()
            if not watcher.done():
                watcher.set_result(None)

    async def _watch(self) -> None:
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watchers.append(watcher)
        await watcher

    async def drain(self) -> None:
        """Stop accepting from outside and return when all queued work is done.

        Actors may still message each other meanwhile. Suspended ones are not waited for: it would take longer
        than a stop should, and the log brings back what they were told.
        """
        self._accepting = False
        while busy := [cell for cell in self._cells.values() if cell.at_work]:
            for cell in busy:
                while self._cells.get((cell.kind, cell.key)) is cell and cell.at_work:
                    await self._watch()

    async def close(self) -> None:
        """Stop at once: what waits is refused with Busy (asked) or reported (told)."""
        self._accepting = False
        error = Busy("the node is shutting down")
        cells = list(self._cells.values())
        self._cells.clear()
        for cell in cells:
            cell.close(error)
        self.notify()
        await asyncio.sleep(0)


def _report_failed_tell(failed: FailedTell) -> None:
    what = f"{failed.kind}/{failed.key} failed to handle {type(failed.message).__name__}"
    report(asyncio.get_running_loop(), what, failed.error)
