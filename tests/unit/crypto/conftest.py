"""Keys and a clock that the tests rule."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from node.crypto.keys import ServerKeys, UserKeys

NOW = 1_760_000_000_000


@dataclass
class SetClock:
    """A clock that moves only when told."""

    at: int = NOW

    def now(self) -> int:
        return self.at

    def event_id(self) -> str:
        return "0" * 32


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="session")
def alpha() -> ServerKeys:
    return ServerKeys(b"\xa1" * 32, NOW)


@pytest.fixture(scope="session")
def beta() -> ServerKeys:
    return ServerKeys(b"\xb1" * 32, NOW)


@pytest.fixture(scope="session")
def alice() -> UserKeys:
    return UserKeys(b"\xa2" * 32, b"\xa3" * 32)


@pytest.fixture(scope="session")
def bob() -> UserKeys:
    return UserKeys(b"\xb2" * 32, b"\xb3" * 32)
