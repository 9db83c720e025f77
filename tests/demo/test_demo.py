"""The demo as a whole: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo import __main__ as demo
from tests.demo.story import Story
from tests.demo.telling import Telling

ROOT = Path(__file__).parent.parent.parent
SECONDS = 150.0
"""How long it may take where other tests run beside it; alone it takes less than a minute."""

SEEN = (
    "both answer",
    "finds published what it wants",
    "alice's request waits for bob's answer",
    "the link works once",
    "it is in bob's book",
    "in the inbox because of the handshake",
    "the attachment is the same to the byte",
    "in nothing that the two nodes serve",
    "the receipt is back",
    "its receipt got lost",
    "bob has it exactly once",
    "a new device of each gets the same documents",
    "had nothing to fetch",
    "exit code 0",
)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: an operator's socket has to lie in it, whose path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@pytest.fixture
def begun(short: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process group of its own, with `short` for its folders."""
    environment = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "KEEP"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", cwd=ROOT,
        start_new_session=True, env=environment | {"TMPDIR": str(short), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    yield process
    if _living(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _living(group: int) -> list[str]:
    """Command lines of a process group. Who has ended and waits for init to take note of it is not in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(of) == group and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (OSError, ValueError):
            continue
    return found


def _nothing_is_left(process: subprocess.Popen[str], folder: Path) -> None:
    assert _living(process.pid) == []
    assert list(folder.iterdir()) == []


def test_the_demo_sees_everything_hold_and_leaves_nothing_behind(
    begun: subprocess.Popen[str], short: Path
) -> None:
    told, _ = begun.communicate(timeout=SECONDS)
    assert begun.returncode == 0, told
    ticks = [line for line in told.splitlines() if line.startswith("   ✓ ")]
    for text in SEEN:
        assert any(text in line for line in ticks), f"{text}\n{told}"
    first, second = re.findall(r"beta +mailio-node run(?: again)?: process (\d+)", told)
    assert first != second
    assert f"kill -9 {first}" in told
    assert "\x1b" not in told
    _nothing_is_left(begun, short)


def test_ctrl_c_ends_all_that_the_demo_has_started(begun: subprocess.Popen[str], short: Path) -> None:
    assert begun.stdout is not None
    for line in begun.stdout:
        if "both answer" in line:
            break
    os.killpg(begun.pid, signal.SIGINT)
    told, _ = begun.communicate(timeout=SECONDS)
    assert begun.returncode == demo.INTERRUPTED, told
    assert "interrupted" in told
    _nothing_is_left(begun, short)


def test_what_does_not_hold_ends_it_with_1_and_a_line_that_says_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(story: Story) -> None:
        story._telling.check(True, "the first thing")
        story._telling.check(False, "the second thing", "3 copies")

    monkeypatch.setattr(Story, "run", run)
    assert demo.played(Telling()) == 1
    told = capsys.readouterr().out
    assert "✓ the first thing" in told
    assert "✗ this did not hold: the second thing: 3 copies" in told
