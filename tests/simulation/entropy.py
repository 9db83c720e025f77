"""Randomness from a seed, in the place of the operating system's, and no scrypt."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from actors.runtime import timers
from node import federation
from node.crypto import scrypt_pool


class AtOnce:
    """An executor for `scrypt_pool`, which submits jobs by itself: each is done when `submit` returns."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what a thread pool takes."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do the work."""
        future: Future[Any] = Future()
        future.set_result(work(*arguments))
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        """There is nothing to end."""


def cheap(secret: bytes, salt: bytes, _: scrypt_pool.Cost, length: int) -> bytes:
    """Stand in for scrypt, which takes longer than everything else here: nobody guesses passwords."""
    return hashlib.blake2b(secret, key=salt[:64], digest_size=length).digest()


def drawn(seed: int) -> Callable[[str], random.Random]:
    """Return what makes a source of chance for each name; each is drawn from by one part alone."""
    return lambda name: random.Random(f"{seed} {name}")


@contextmanager
def seeded(chance: random.Random) -> Iterator[None]:
    """Draw salts, keys and nonces from `chance` while the block runs."""
    with (
        patch.object(os, "urandom", chance.randbytes),
        patch.object(secrets, "token_bytes", lambda count=32: chance.randbytes(count)),
        patch.object(secrets, "token_hex", lambda count=32: chance.randbytes(count).hex()),
        patch.object(secrets, "choice", chance.choice),
        patch.object(random, "random", _unforeseen),
        patch.object(scrypt_pool, "ThreadPoolExecutor", AtOnce),
        patch.object(scrypt_pool, "_derive", cheap),
        patch.object(timers, "LOOK_SECONDS", 60.0),
        patch.object(federation, "COUNT_SECONDS", 300.0),
    ):
        yield


def _unforeseen() -> float:
    raise AssertionError("a node draws from a source that is not the simulation's")
