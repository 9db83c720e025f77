"""The actor type: order, one at a time, awaiting handlers, failures, Pykka's own API on the loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from actors.runtime.loop_actor import LoopActor, LoopFuture, WouldBlock
from events.errors import Busy, InvalidInput


class Recorder(LoopActor):
    """Notes what it gets; awaits the message when it is an event, calls it when it is callable."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.inside = 0

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, asyncio.Event):
            return self.wait_for(message)
        self.seen.append(message)
        if isinstance(message, Exception):
            raise message
        return message

    async def wait_for(self, event: asyncio.Event) -> str:
        self.inside += 1
        assert self.inside == 1
        await event.wait()
        self.inside -= 1
        self.seen.append("waited")
        return "waited"

    def add(self, left: int, right: int) -> int:
        return left + right

    async def add_later(self, left: int, right: int) -> int:
        await asyncio.sleep(0)
        return left + right


def launched(limit: int = 0) -> tuple[Recorder, pykka.ActorRef[Recorder]]:
    actor = Recorder()
    actor.actor_inbox.limit = limit
    return actor, actor.launch()


async def test_messages_are_handled_in_the_order_they_were_sent() -> None:
    actor, ref = launched()
    for number in range(500):
        ref.tell(number)
    assert await ref.ask("last", block=False) == "last"
    assert actor.seen == [*range(500), "last"]


async def test_a_message_waits_until_the_one_before_has_been_awaited() -> None:
    actor, ref = launched()
    gate = asyncio.Event()
    first = ref.ask(gate, block=False)
    second = ref.ask(gate, block=False)
    third = ref.ask("third", block=False)
    for _ in range(20):
        await asyncio.sleep(0)
    assert actor.seen == []
    gate.set()
    assert [await first, await second, await third] == ["waited", "waited", "third"]
    assert actor.seen == ["waited", "waited", "third"]


async def test_one_actor_with_much_to_do_lets_others_have_their_turn() -> None:
    busy, busy_ref = launched()
    _, other_ref = launched()
    for number in range(10_000):
        busy_ref.tell(number)
    await other_ref.ask("hello", block=False)
    assert len(busy.seen) < 1000
    await busy_ref.ask("end", block=False)


async def test_an_exception_in_an_ask_reaches_the_asker_and_the_actor_lives() -> None:
    _, ref = launched()
    with pytest.raises(InvalidInput):
        await ref.ask(InvalidInput("no"), block=False)
    assert ref.is_alive()
    assert await ref.ask("still here", block=False) == "still here"


async def test_an_exception_in_a_tell_is_reported_and_the_messages_behind_it_are_handled() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    actor, ref = launched()
    error = ValueError("poison")
    ref.tell(error)
    ref.tell("behind")
    assert await ref.ask("last", block=False) == "last"
    assert actor.seen == [error, "behind", "last"]
    assert [context["exception"] for context in reported] == [error]


async def test_an_exception_that_nobody_awaits_does_not_stop_the_actor() -> None:
    _, ref = launched()
    ref.ask(ValueError("unread"), block=False)
    assert await ref.ask("next", block=False) == "next"


async def test_get_on_the_loop_raises_instead_of_blocking_it() -> None:
    _, ref = launched()
    with pytest.raises(WouldBlock):
        ref.ask("question")
    future = ref.ask("question", block=False)
    with pytest.raises(WouldBlock):
        future.get()
    assert await future == "question"
    assert future.get() == "question"


async def test_derived_futures_can_be_awaited() -> None:
    _, ref = launched()
    doubled = ref.ask(21, block=False).map(lambda number: number * 2)
    joined = ref.ask("a", block=False).join(ref.ask("b", block=False))
    assert await doubled == 42
    assert await joined == ["a", "b"]


async def test_many_can_await_one_future_and_one_of_them_may_give_up() -> None:
    _, ref = launched()
    gate = asyncio.Event()
    future = ref.ask(gate, block=False)

    async def waiting() -> Any:
        return await future

    tasks = [asyncio.create_task(waiting()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.set()
    assert await tasks[1] == await tasks[2] == "waited"
    assert tasks[0].cancelled()


async def test_a_future_is_settled_only_once() -> None:
    future: LoopFuture[int] = LoopFuture()
    future.set(1)
    with pytest.raises(asyncio.InvalidStateError):
        future.set(2)
    assert await future == 1


async def test_a_proxy_calls_plain_and_async_methods() -> None:
    _, ref = launched()
    proxy = ref.proxy()
    assert await proxy.add(1, 2) == 3
    assert await proxy.add_later(1, 2) == 3
    assert await proxy.inside == 0


async def test_stop_handles_what_came_before_and_refuses_what_came_after() -> None:
    actor, ref = launched()
    ref.tell("before")
    stopped = ref.stop(block=False)
    after = ref.ask("after", block=False)
    assert await stopped is True
    with pytest.raises(pykka.ActorDeadError):
        await after
    assert actor.seen == ["before"]
    assert not ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("too late")
    assert await ref.stop(block=False) is False


async def test_a_full_inbox_refuses_a_plain_tell_but_never_a_stop() -> None:
    _, ref = launched(limit=2)
    ref.tell(1)
    ref.tell(2)
    with pytest.raises(Busy):
        ref.tell(3)
    assert await ref.stop(block=False) is True


async def test_room_is_given_in_order_and_a_newcomer_cannot_jump_the_queue() -> None:
    actor, ref = launched(limit=1)
    inbox = actor.actor_inbox
    ref.tell("first")
    order: list[str] = []

    async def teller(name: str) -> None:
        assert await inbox.room()
        order.append(name)
        inbox.put_granted(Envelope(name))

    waiting = [asyncio.create_task(teller(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert inbox.full
    await asyncio.gather(*waiting)
    await ref.ask("end", block=False)
    assert order == ["a", "b", "c"]
    assert actor.seen == ["first", "a", "b", "c", "end"]


async def test_room_granted_to_a_cancelled_teller_goes_to_the_next() -> None:
    actor, ref = launched(limit=1)
    inbox = actor.actor_inbox
    actor.pause()
    ref.tell("first")
    given_up = asyncio.create_task(inbox.room())
    patient = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    inbox.get()  # grants the room to the first of them
    given_up.cancel()
    assert await asyncio.wait_for(patient, 5)
    assert inbox.full


async def test_an_ask_from_another_thread_blocks_only_that_thread() -> None:
    _, ref = launched()
    assert await asyncio.to_thread(ref.ask, "from afar", timeout=5) == "from afar"
    gate = asyncio.Event()
    pending = ref.ask(gate, block=False)
    with pytest.raises(pykka.Timeout):
        await asyncio.to_thread(pending.get, timeout=0.01)
    gate.set()
    assert await asyncio.to_thread(pending.get, timeout=5) == "waited"


async def test_a_full_inbox_refuses_an_ask_from_another_thread() -> None:
    actor, ref = launched(limit=1)
    actor.pause()
    ref.tell("fills it")
    with pytest.raises(Busy):
        await asyncio.to_thread(ref.ask, "from afar", timeout=5)


async def test_actors_stay_out_of_pykkas_registry() -> None:
    before = len(pykka.ActorRegistry.get_all())
    _, ref = launched()
    assert len(pykka.ActorRegistry.get_all()) == before
    await ref.stop(block=False)


async def test_an_idle_actor_has_no_task() -> None:
    _, ref = launched()
    await ref.proxy().add_later(1, 1)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_ref_keeps_its_actor_alive_although_pykka_refers_weakly() -> None:
    ref = Recorder.start()
    gc.collect()
    assert await ref.ask("there?", block=False) == "there?"


async def test_the_context_of_the_sender_is_not_changed_by_the_handler() -> None:
    _, ref = launched()
    before = dict(contextvars.copy_context())
    await ref.ask("message", block=False)
    assert dict(contextvars.copy_context()) == before
