"""The SMTP door alone: mails a second when nothing is stored, beside stock aiosmtpd, in one run.

`python -m benchmarks.smtp_door`: for each server, a process of its own on uvloop and the load in another
one; 50 sessions, 2 KB, 50 mails each; the order alternates and the median of the rounds is printed. The
door does its real work: reply codes, limits, and a log line a mail that goes to /dev/null.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Sequence

import msgspec
from benchmarks.smtp_load import LoadResult

from events.mail import Recipient
from node.smtp.ports import SessionFacts

ROUNDS = 5
SESSIONS = 50
MAILS = 50
BYTES = 2_048


class StoreNothing:
    """Ports that say yes at once."""

    def busy(self) -> bool:
        return False

    async def admit(
        self, facts: SessionFacts, envelope_sender: str, recipient: str, declared_size: int
    ) -> Recipient:
        return Recipient("0x00", recipient)

    async def accept(
        self, facts: SessionFacts, envelope_sender: str, recipients: Sequence[Recipient], raw: bytes
    ) -> str:
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


async def serve_aiosmtpd() -> None:
    from aiosmtpd.smtp import SMTP

    class Yes:
        async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
            return "250 OK"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Yes(), hostname="mx.example"), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


SERVERS = {"door": serve_door, "aiosmtpd": serve_aiosmtpd}


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


def measure(name: str, sessions: int = SESSIONS, mails: int = MAILS, size: int = BYTES) -> LoadResult:
    """Start a server and a load, each in a process of its own."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.smtp_door", name], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        command = [sys.executable, "-m", "benchmarks.smtp_load", "127.0.0.1", port]
        command += [str(sessions), str(mails), str(size), "someone@alpha.example", "other@load.example"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    finally:
        server.terminate()
        server.wait()
    return msgspec.json.decode(output, type=LoadResult)


def main() -> None:
    """Compare, or be one of the servers."""
    if len(sys.argv) > 1:
        serve(sys.argv[1])
        return
    results: dict[str, list[LoadResult]] = {name: [] for name in SERVERS}
    for _ in range(ROUNDS):
        for name in SERVERS:
            results[name].append(measure(name))
    for name, rounds in results.items():
        rate = statistics.median(result.rate for result in rounds)
        p50 = statistics.median(result.percentile(50) for result in rounds) * 1000
        p99 = statistics.median(result.percentile(99) for result in rounds) * 1000
        print(f"{name:10} {rate:8.0f} mails/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   {len(rounds)} rounds")


if __name__ == "__main__":
    main()
