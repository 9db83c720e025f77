"""What holds for every test: it leaves its process as it was, so that none depends on who ran before."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog


def pytest_configure() -> None:
    """Programs that tests start must hear of Ctrl-C, also where this one was told not to, in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _the_process_stays_as_it_was() -> Iterator[None]:
    before = _shared()
    yield
    after = _shared()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    structlog.configure(**before["messages"])
    assert not changed, f"a test changed what all tests of a process share (before, after): {changed}"


def _shared() -> dict[str, Any]:
    """All that a test may change for others, by name."""
    root = logging.getLogger()
    return {
        "messages": structlog.get_config(),
        "the level of logging": root.level,
        "logging altogether": logging.root.manager.disable,
        "the working directory": Path.cwd(),
        "the environment": {
            name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"
        },
    }
