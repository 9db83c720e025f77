"""Each failpoint once: the node dies there under load and comes back as if nothing had been.

Whole chains of deaths hit one node, two nodes at a time, because starting is what takes long; each next start
is the recovery of the last death. `make crash` looks after every single death, at more hits.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from events.log import failpoints
from tests.crash.drill import AT_FIRST_START, Drill

LATER = [name for name in failpoints.NAMES if name not in AT_FIRST_START]
CHAINS = ([*AT_FIRST_START, *LATER[::2]], LATER[1::2])


@pytest.mark.timeout(900)
def test_a_node_that_dies_at_every_failpoint_keeps_all_its_promises(tmp_path: Path) -> None:
    # Made here, not in the threads: two that read their settings for the first time at once can end the process.
    drills = [on_new_node(tmp_path / str(number)) for number, _ in enumerate(CHAINS)]
    with ThreadPoolExecutor(len(CHAINS)) as pool:
        for told in pool.map(die_and_look, drills, CHAINS):
            assert told > 0


def on_new_node(folder: Path) -> Drill:
    folder.mkdir()
    return Drill(folder)


def die_and_look(drill: Drill, chain: list[str]) -> int:
    """Let one node die again and again, and look in the end; return how many promises it had made."""
    failpoint = ""
    try:
        for failpoint in chain:
            drill.strike(failpoint, 1)
        drill.look()
    except BaseException as error:
        so_far = ",".join(chain[: chain.index(failpoint) + 1])
        error.add_note(f"once more: make crash FAILPOINT={so_far} HIT=1")
        raise
    finally:
        drill.daemon.end()
    return len(drill.book.acknowledged)


def test_a_failpoint_that_is_off_is_the_function_itself() -> None:
    def function() -> None:
        """Nothing."""

    for name in failpoints.NAMES:
        assert failpoints.after(name)(function) is function


def test_a_failpoint_that_is_not_in_the_list_can_not_be_named() -> None:
    with pytest.raises(TypeError, match="not in the list"):
        failpoints.after("nowhere")


def run_with(text: str, body: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the variable set."""
    program = f"import asyncio\nfrom events.log import failpoints\n{body}\nprint('alive')"
    environment = {failpoints.VARIABLE: text}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def test_a_wrong_failpoint_ends_the_process_before_it_does_anything() -> None:
    for text in ("nowhere:1", "blob-synced", "blob-synced:0", "blob-synced:x"):
        done = run_with(text, "")
        assert done.returncode == 1
        assert "unset it" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_process_dies_at_the_hit_that_was_asked_for_and_says_so_before(kind: str) -> None:
    step = "asyncio.run(step(i))" if kind.startswith("async") else "step(i)"
    body = f"""
@failpoints.after('blob-synced')
{kind} step(i): print(i, flush=True)
@failpoints.after('blob-written')
def other(): pass
for i in range(1, 5): other(); {step}"""
    done = run_with("blob-synced:3", body)
    assert done.returncode == -9
    assert done.stdout == "1\n2\n3\n"
    assert "TEST ONLY" in done.stderr


def test_a_step_that_fails_does_not_reach_its_failpoint() -> None:
    body = """
@failpoints.after('blob-synced')
def step(): raise OSError
try: step()
except OSError: pass"""
    assert run_with("blob-synced:1", body).stdout == "alive\n"
