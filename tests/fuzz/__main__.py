"""Fuzz all targets, or those named, for some seconds each: `make fuzz SECONDS=60`.

    python -m tests.fuzz SECONDS [TARGET …]

What breaks an invariant is kept as `build/fuzz/<target>-crash-…`: make a test of it, then mend.
"""

from __future__ import annotations

import sys

from tests.fuzz import runs

FOLDER = runs.ROOT / "build" / "fuzz"


def main() -> None:
    """Run one target after the other; exit 1 if one of them broke."""
    seconds, *chosen = sys.argv[1:] or ["60"]
    broken = []
    for name in chosen or runs.names():
        ended = runs.run(name, FOLDER, f"-max_total_time={int(seconds)}")
        sys.stdout.write(f"{name:<16} {'holds' if not ended.returncode else 'BROKEN'}\n")
        if ended.returncode:
            broken.append(name)
            sys.stdout.write(ended.stderr[-4_000:])
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
