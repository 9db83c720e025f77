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


@contextmanager
def seeded(seed: int) -> Iterator[random.Random]:
    """Draw everything from a seed while the block runs: salts, keys, nonces and jitter."""
    chance = random.Random(seed)
    random.seed(seed)
    with (
        patch.object(os, "urandom", chance.randbytes),
        patch.object(secrets, "token_bytes", lambda count=32: chance.randbytes(count)),
        patch.object(secrets, "token_hex", lambda count=32: chance.randbytes(count).hex()),
        patch.object(secrets, "choice", chance.choice),
        patch.object(scrypt_pool, "ThreadPoolExecutor", AtOnce),
        patch.object(scrypt_pool, "_derive", cheap),
    ):
        yield chance
