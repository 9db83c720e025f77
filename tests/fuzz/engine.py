"""One target under libFuzzer: inputs are mutated towards code that no earlier input has reached.

python -m tests.fuzz.engine TARGET [libFuzzer's own options and folders]
"""

from __future__ import annotations

import importlib
import sys

import atheris

PARSERS = ["node", "events"]
"""Packages whose branches guide the mutation."""


def main() -> None:
    """Fuzz until an option says to stop, or the invariant breaks: then the input is written to a file."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=PARSERS):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup([f"fuzz {name}", *options], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
