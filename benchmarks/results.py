"""`benchmarks/results.json`: the last figures of each benchmark, and the machine that gave them."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

FILE = Path(__file__).parent / "results.json"


def record(name: str, figures: Any) -> None:
    """Put a benchmark's figures in the place of its earlier ones."""
    known = msgspec.json.decode(FILE.read_bytes()) if FILE.exists() else {}
    known[name] = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "figures": figures,
    }
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(known, order="sorted"), indent=2) + b"\n")
