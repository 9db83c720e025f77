"""Access to the published wire vectors by id."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def all_vectors() -> dict[str, dict[str, Any]]:
    content = json.loads(Path(__file__).with_name("mailio-test-vectors.json").read_bytes())
    return {vector["id"]: vector for vector in content["vectors"]}


def vector(identifier: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (input, expected)."""
    found = all_vectors()[identifier]
    return found["input"], found["expected"]
