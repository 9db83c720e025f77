"""The fuzz targets, and a run of one of them in a process of its own.

A target is a module of `tests.fuzz.targets`: its docstring begins with the invariant, `SEEDS` are inputs worth
mutating, and `one` takes any bytes and raises when the invariant does not hold.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Protocol, cast

import tests.fuzz.targets

ROOT = Path(__file__).parents[2]


class Target(Protocol):
    """What a target module has."""

    SEEDS: list[bytes]
    one: Callable[[bytes], None]
    __doc__: str


def names() -> list[str]:
    """All targets."""
    return sorted(module.name for module in pkgutil.iter_modules(tests.fuzz.targets.__path__))


def target(name: str) -> Target:
    """Import one."""
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))


def run(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Fuzz one target; inputs that reach new code, and those that break it, are kept below `folder`."""
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target(name).SEEDS:
        (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.engine", name, str(corpus),
            f"-artifact_prefix={folder}/{name}-", "-rss_limit_mb=1024", "-timeout=10", "-verbosity=0", *options,
        ],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
