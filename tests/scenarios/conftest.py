"""A daemon for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Daemon]:
    """A configured daemon that has not been started."""
    node = Daemon(tmp_path)
    yield node
    node.end()
