"""Counting what a process makes durable: its calls of fsync and fdatasync, counted by the kernel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EVENTS = ("syscalls:sys_enter_fdatasync", "syscalls:sys_enter_fsync")


class Syncs:
    """`count` is known when the block is over; None where the kernel's tracepoints can't be read."""

    def __init__(self) -> None:
        self.count: int | None = None


@contextmanager
def syncs_of(pid: int) -> Iterator[Syncs]:
    """Count during a block, with `perf stat`, which needs root and slows nothing down."""
    counted = Syncs()
    if shutil.which("perf") is None:
        yield counted
        return
    (orders, order), (answers, answer) = os.pipe(), os.pipe()
    command = ["perf", "stat", "-x", ",", "-e", ",".join(EVENTS), "-p", str(pid)]
    # It begins disabled and says when it counts; attaching to all threads takes a while.
    command += ["--delay", "-1", "--control", f"fd:{orders},{answer}"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=(orders, answer)
    ) as process:
        for fd in (orders, answer):
            os.close(fd)
        with suppress(BrokenPipeError):  # it may not: then nothing is counted
            os.write(order, b"enable\n")
        os.read(answers, 16)
        yield counted
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        fields = [line.split(",") for line in process.stderr if "," in line]
    for fd in (order, answers):
        os.close(fd)
    values = [field[0] for field in fields if len(field) > 2 and field[2] in EVENTS]
    if len(values) == len(EVENTS) and all(value.isdigit() for value in values):
        counted.count = sum(map(int, values))
