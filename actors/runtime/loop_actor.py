"""A Pykka actor type that lives on the asyncio loop: no thread, and no task while there is no work.

Built on Pykka's extension points for new actor types (`_create_actor_inbox`, `_create_future`,
`_start_actor_loop`). What differs from `ThreadingActor`:

- A handler may return an awaitable; it is awaited before the next message is handled.
- An exception in an `ask` goes to the asker. An exception in a `tell` goes to the supervisor; the actor
  and the messages that wait behind it live on.
- The inbox may be bounded: `put` into a full one raises `Busy`, `await inbox.room()` waits.
- Actors are not listed in `pykka.ActorRegistry`: its `unregister` walks a list, which is quadratic when
  100,000 actors leave. `actors.runtime.activation.ActorSystem` knows them by name instead.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Generator
from contextvars import ContextVar
from types import CoroutineType, TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from events.errors import Busy

T = TypeVar("T")
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

TURN = 64
"""Messages one actor handles before the others get their turn: fair, yet few trips through the loop."""

INSIDE_ACTOR: ContextVar[bool] = ContextVar("INSIDE_ACTOR", default=False)
"""True in the code of a handler and in the tasks it starts: work that a draining system still accepts."""


LATER = object()
"""What an actor says to a question that has to wait for its turn."""


class WouldBlock(RuntimeError):
    """`get()` was called on the loop's thread before there was a result: use `await` there."""

    def __init__(self, future: LoopFuture[Any]) -> None:
        super().__init__("get() would block the event loop for ever; await the future instead")
        self.future = future


class LoopFuture(pykka.Future[T]):
    """A Pykka future that is awaited. Must be created on a running loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._settled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value or raise the exception; from another thread, block until there is one.

        Raises WouldBlock on a loop's thread when there is no result yet, pykka.Timeout after `timeout` s.
        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._settled:
            if asyncio._get_running_loop() is not None:
                raise WouldBlock(self)
            self._block(timeout)
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def _block(self, timeout: float | None) -> None:
        done = asyncio.run_coroutine_threadsafe(self._wait(), self._loop)
        try:
            done.result(timeout)
        except concurrent.futures.TimeoutError:
            done.cancel()
            raise pykka.Timeout(f"{timeout} seconds") from None

    def set(self, value: T | None = None) -> None:
        """Settle with a value. Raises asyncio.InvalidStateError when settled already."""
        self._settle(value, None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Settle with an exception: the given one, or the one being handled."""
        kind, error, traceback = exc_info or sys.exc_info()
        if error is None:
            error = kind() if kind is not None else RuntimeError("set_exception without an exception")
        self._settle(None, error.with_traceback(traceback))

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        if self._settled or self._get_hook is not None:
            raise asyncio.InvalidStateError("the future has a result already")
        self._value, self._error, self._settled = value, error, True
        if asyncio._get_running_loop() is self._loop:
            self._wake()
        else:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        if self._settled:
            return
        waiter = self._loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        await waiter

    def __await__(self) -> Generator[Any, None, T]:
        """Wait on the loop. Futures made by `map`, `join`, `stop` … wait for whatever their hook needs."""
        while True:
            try:
                return self.get()
            except WouldBlock as blocked:
                source = blocked.future
            yield from source._wait().__await__()

    __iter__ = __await__


class StoppedFlag(threading.Event):
    """Pykka's stop flag without the lock that nobody waits on (a real Event costs 600 bytes)."""

    _stopped = False

    def __init__(self) -> None:
        """Leave out the base's condition."""

    def is_set(self) -> bool:
        """Tell whether the actor has stopped."""
        return self._stopped

    def set(self) -> None:
        """Mark the actor as stopped."""
        self._stopped = True

    def wait(self, timeout: float | None = None) -> bool:
        """Answer at once if stopped. Raises RuntimeError otherwise: it would block the loop."""
        if not self._stopped:
            raise RuntimeError("waiting would block the event loop; await ref.stop(block=False) instead")
        return True


class LoopInbox:
    """A queue of envelopes that exists only while it holds some, with a limit and waiters for room.

    Room is handed to waiters in their order, and newcomers queue behind them. `limit` 0: unbounded.
    """

    __slots__ = ("_granted", "_queue", "_waiters", "actor", "limit")

    def __init__(self) -> None:
        self.actor: LoopActor | None = None
        self.limit = 0
        self._queue: deque[Envelope[Any]] | None = None
        self._granted = 0
        self._waiters: deque[asyncio.Future[None]] | None = None

    def __len__(self) -> int:
        return len(self._queue) if self._queue else 0

    @property
    def full(self) -> bool:
        """True when a newcomer has to wait."""
        return self.limit > 0 and (bool(self._waiters) or len(self) + self._granted >= self.limit)

    @property
    def awaited(self) -> bool:
        """True when somebody waits for room, or got it and has not used it yet."""
        return bool(self._waiters) or self._granted > 0

    def empty(self) -> bool:
        """True when no envelope waits."""
        return not self._queue

    def put(self, envelope: Envelope[Any]) -> None:
        """Append and wake the actor; callable from any thread. Raises Busy when full (never for a stop)."""
        actor = self.actor
        if actor is not None and asyncio._get_running_loop() is not actor.loop:
            actor.loop.call_soon_threadsafe(self._put_or_refuse, envelope)
            return
        if self.full and not isinstance(envelope.message, _ActorStop):
            raise Busy("too many requests are waiting", f"the inbox holds {len(self)} messages")
        self.admit(envelope)

    def _put_or_refuse(self, envelope: Envelope[Any]) -> None:
        """Do what `put` does, for a caller on another thread that no longer listens for the error."""
        try:
            self.put(envelope)
        except Busy as busy:
            if self.actor is not None:
                self.actor.refuse(envelope, busy)

    def admit(self, envelope: Envelope[Any]) -> None:
        """Append, on the loop, whatever the limit: the caller has looked, or the envelope had its place."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(envelope)
        if self.actor is not None:
            self.actor.wake()

    def put_granted(self, envelope: Envelope[Any]) -> None:
        """Append with the room that `room()` has granted."""
        self._granted -= 1
        self.admit(envelope)

    def get(self) -> Envelope[Any]:
        """Take the oldest envelope. Raises IndexError when empty."""
        queue = self._queue
        if not queue:
            raise IndexError("the inbox is empty")
        envelope = queue.popleft()
        if not queue:
            self._queue = None
        if self._waiters:
            self._grant()
        return envelope

    def _grant(self) -> None:
        waiters = self._waiters
        while waiters and len(self) + self._granted < self.limit:
            waiter = waiters.popleft()
            if not waiter.done():
                self._granted += 1
                waiter.set_result(None)

    async def room(self) -> bool:
        """Wait for room and reserve it for one `put_granted`; False if the inbox closed meanwhile."""
        if not self.full:
            self._granted += 1
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and self.actor is not None:
                self._granted -= 1
                self._grant()
                self.actor.wake_watchers()
            else:
                waiter.cancel()
            raise
        return self.actor is not None

    def close(self) -> None:
        """Unbind from the actor and let everybody who waits for room look again."""
        self.actor = None
        waiters, self._waiters = self._waiters, None
        self._granted = 0
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class Supervisor(Protocol):
    """Who is told what happens to an actor."""

    def tell_failed(self, message: Any, error: Exception) -> None:
        """Handle that a told message failed; nobody else knows of it."""

    def became_idle(self) -> None:
        """Note that the actor has handled all its messages."""


class LoopActor(pykka.Actor):
    """Base of all actors of this node: one message at a time, on the loop it was started on.

    Subclasses define `on_receive(message)`, which may be `async`. A new actor is `launch`ed once.
    """

    actor_inbox: LoopInbox
    loop: asyncio.AbstractEventLoop

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self.actor_stopped = self._actor_ref.actor_stopped = StoppedFlag()
        self.supervisor: Supervisor | None = None
        self._scheduled = False
        self._paused = False

    @staticmethod
    def _create_actor_inbox() -> LoopInbox:
        return LoopInbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        """Give an awaitable future on a loop, a blocking one to a plain thread."""
        if asyncio._get_running_loop() is None:
            return pykka.ThreadingFuture()
        return LoopFuture()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Create the actor and start it on the running loop, outside Pykka's registry."""
        return cls(*args, **kwargs).launch()

    def launch(self, *, paused: bool = False) -> pykka.ActorRef[Self]:
        """Bind to the running loop; with `paused`, messages wait until `resume`."""
        self.loop = asyncio.get_running_loop()
        self._paused = paused
        self._start_actor_loop()
        return self.actor_ref

    def _start_actor_loop(self) -> None:
        self.actor_inbox.actor = self
        self.on_start()
        self.wake()

    async def on_activate(self) -> None:
        """Load state before the first message. What it raises goes to those who asked."""

    async def on_passivate(self) -> None:
        """Tidy up before leaving memory. More messages may follow: then the actor simply goes on."""

    def answer_now(self, message: Any) -> Any:
        """Answer a question while the actor is idle, without a turn of its own; LATER for any other message.

        Only what neither waits nor changes anything may be answered here.
        """
        return LATER

    @property
    def idle(self) -> bool:
        """True when nothing is queued, running, or about to be queued."""
        return not (self._scheduled or self._paused or self.actor_inbox or self.actor_inbox.awaited)

    def pause(self) -> None:
        """Let messages wait. Only for an idle actor."""
        self._paused = True

    def resume(self) -> None:
        """Go on with the messages that have waited."""
        self._paused = False
        self.wake()

    def wake(self) -> None:
        """Schedule a turn unless one is due, running or not allowed now."""
        if self._scheduled or self._paused or self.actor_inbox.empty():
            return
        self._scheduled = True
        self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Handle messages until one awaits, the share is used up, or the inbox is empty."""
        INSIDE_ACTOR.set(True)
        inbox = self.actor_inbox
        for _ in range(TURN):
            if inbox.empty() or self._paused or self.actor_stopped.is_set():
                self._rest()
                return
            envelope = inbox.get()
            try:
                response = self._handle_receive(envelope.message)
            except Exception as error:  # noqa: BLE001 - goes to the asker or the supervisor
                self.refuse(envelope, error)
                continue
            if type(response) is CoroutineType or isinstance(response, Awaitable):
                self._handling = self.loop.create_task(self._finish(envelope, response))
                self._awaited = response
                return
            _reply(envelope, response)
        self.loop.call_soon(self._turn)

    async def _finish(self, envelope: Envelope[Any], response: Awaitable[Any]) -> None:
        try:
            value = await response
        except Exception as error:  # noqa: BLE001 - goes to the asker or the supervisor
            self.refuse(envelope, error)
        except BaseException:
            self.refuse(envelope, pykka.ActorDeadError(f"{self} was cancelled"))
            self._scheduled = False
            raise
        else:
            _reply(envelope, value)
        del self._handling
        self._turn()

    def _rest(self) -> None:
        self._scheduled = False
        self.wake_watchers()

    def wake_watchers(self) -> None:
        """Let the supervisor see whether the actor is idle now."""
        if self.supervisor is not None:
            self.supervisor.became_idle()

    def refuse(self, envelope: Envelope[Any], error: Exception) -> None:
        """Give the error to the asker; for a tell, to the supervisor."""
        if envelope.reply_to is not None:
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))
        elif self.supervisor is not None:
            self.supervisor.tell_failed(envelope.message, error)
        else:
            report(self.loop, f"{self} failed to handle {type(envelope.message).__name__}", error)

    def take_waiting(self) -> list[Envelope[Any]]:
        """Remove and return all waiting envelopes, oldest first."""
        inbox, waiting = self.actor_inbox, []
        while not inbox.empty():
            waiting.append(inbox.get())
        return waiting

    def discard(self) -> None:
        """Stop at once: cancel what is being handled, take no more messages. Waiting ones stay queued."""
        self.actor_stopped.set()
        self.actor_inbox.close()
        handling: asyncio.Task[None] | None = self.__dict__.get("_handling")
        if handling is not None and handling is not asyncio.current_task(self.loop):
            handling.cancel()
            awaited = self.__dict__.get("_awaited")
            if type(awaited) is CoroutineType and inspect.getcoroutinestate(awaited) == inspect.CORO_CREATED:
                awaited.close()  # The task was cancelled before it began: nobody would await it any more.

    def _stop(self) -> None:
        """Stop as Pykka does: messages behind the stop are refused, none of them silently."""
        self.actor_stopped.set()
        self.on_stop()
        for envelope in self.take_waiting():
            if isinstance(envelope.message, _ActorStop):
                _reply(envelope, None)
            else:
                self.refuse(envelope, pykka.ActorDeadError(f"{self} stopped before handling the message"))
        self.actor_inbox.close()


def _reply(envelope: Envelope[Any], value: Any) -> None:
    if envelope.reply_to is not None:
        envelope.reply_to.set(value)


def report(loop: asyncio.AbstractEventLoop, message: str, error: BaseException) -> None:
    """Give an error that nobody else reads to the loop's exception handler (the daemon logs it)."""
    loop.call_exception_handler({"message": message, "exception": error})
