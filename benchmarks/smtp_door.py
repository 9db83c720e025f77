"""The SMTP door alone: mails a second when nothing is stored, beside aiosmtpd, in one run.

`python -m benchmarks.smtp_door [--size quick]`: for each server, a process of its own on uvloop and the
load in another one; 50 sessions, 2 KB, 50 mails each; the order alternates and the median of the rounds
is printed. The door does its real work: reply codes, limits, and a log line a mail that goes to
/dev/null.

`overridden` is aiosmtpd as far as its own extension points carry: its address parser replaced by the
door's, its DATA loop by one read up to CRLF . CRLF. It has none of the door's limits, checks of the
content, counters and log lines: a bar to measure the door against, not one to put into service.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.results import Size, in_turns, middle, run
from benchmarks.smtp_load import LoadResult
from events.mail import Recipient
from node.smtp.ports import SessionFacts

SESSIONS = 50
MAILS = 50
BYTES = 2_048


class StoreNothing:
    """Ports that say yes at once."""

    def busy(self) -> bool:
        """Never."""
        return False

    async def admit(
        self, facts: SessionFacts, envelope_sender: str, recipient: str, declared_size: int
    ) -> Recipient:
        """Anyone."""
        return Recipient("0x00", recipient)

    async def accept(
        self, facts: SessionFacts, envelope_sender: str, recipients: Sequence[Recipient], raw: bytes
    ) -> str:
        """Anything."""
        return "01a20956"


async def serve_door() -> None:
    from events.log.clock import SystemClock
    from node.smtp.door import SmtpDoor
    from node.smtp.limits import SmtpLimits

    limits = SmtpLimits(connections_per_address=1_000)
    door = SmtpDoor(StoreNothing(), limits, None, "mx.example", SystemClock())
    await door.start("127.0.0.1", 0)
    print(door.port, flush=True)
    await asyncio.Event().wait()


class Yes:
    """A handler of aiosmtpd that says yes at once."""

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
        """Anything."""
        return "250 OK"


async def serve_aiosmtpd() -> None:
    from aiosmtpd.smtp import SMTP

    await serve_protocol(lambda: SMTP(Yes(), hostname="mx.example"))


async def serve_overridden() -> None:
    from aiosmtpd.smtp import SMTP

    from node.smtp.grammar import parse_rcpt

    class Overridden(SMTP):
        line_length_limit = 1 << 20

        def _getaddr(self, arg: str) -> tuple[str, str]:
            path, _, rest = arg.partition(" ")
            return parse_rcpt(f"TO:{path}", 256, smtputf8=True), rest

        async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
            await self.push("354 go on")
            raw = await self._reader.readuntil(b"\r\n.\r\n")
            assert self.envelope is not None
            self.envelope.content = raw[:-3].replace(b"\r\n.", b"\r\n")
            self._set_post_data_state()  # type: ignore[no-untyped-call]
            await self.push(await self.event_handler.handle_DATA())

    await serve_protocol(lambda: Overridden(Yes(), hostname="mx.example"))


async def serve_protocol(factory: Callable[[], asyncio.BaseProtocol]) -> None:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


SERVERS = {"door": serve_door, "aiosmtpd": serve_aiosmtpd, "overridden": serve_overridden}


def serve(name: str) -> None:
    """Run one server in this process; its port is the first line of its output."""
    import logging

    import structlog
    import uvloop

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(open("/dev/null", "w")),  # noqa: PTH123, SIM115
        cache_logger_on_first_use=True,
    )
    uvloop.run(SERVERS[name]())


class Door(msgspec.Struct, frozen=True):
    """Mails a second, and ms from MAIL FROM to the last 250."""

    rate: float
    p50: float
    p99: float


def one_round(name: str, mails: int) -> LoadResult:
    """Start a server and a load, each in a process of its own."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.smtp_door", name], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        command = [sys.executable, "-m", "benchmarks.smtp_load", "127.0.0.1", port]
        command += [str(SESSIONS), str(mails), str(BYTES), "someone@alpha.example", "other@load.example"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    finally:
        server.terminate()
        server.wait()
    return msgspec.json.decode(output, type=LoadResult)


def measure(size: Size) -> dict[str, Door]:
    """Measure all doors in turns."""
    taken: dict[str, list[LoadResult]] = {name: [] for name in SERVERS}
    for _, name in in_turns(list(SERVERS), size.of(5, 1, 1)):
        taken[name].append(one_round(name, size.of(MAILS, 10, 1)))
    return {
        name: Door(
            middle([result.rate for result in results]),
            1e3 * middle([result.percentile(50) for result in results]),
            1e3 * middle([result.percentile(99) for result in results]),
        )
        for name, results in taken.items()
    }


def show(doors: dict[str, Door]) -> None:
    """Print a table."""
    for name, door in doors.items():
        print(f"{name:10} {door.rate:8,.0f} mails/s   p50 {door.p50:6.1f} ms   p99 {door.p99:6.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SERVERS:
        serve(sys.argv[1])
    else:
        run("smtp_door", measure, show)
