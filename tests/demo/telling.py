"""What the demo says: numbered steps, plain lines, and a tick for each thing that was seen to hold."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from node.cli.output import printable

WIDTH = 110
"""Columns of the picture."""

TIME_COLUMN = 92
"""Where the time of a tick stands, if the line is not longer."""

_LONG = re.compile(r"((?:0x|p=)[0-9A-Za-z+/]{10})[0-9A-Za-z+/=]+")

STYLES = {"alpha": "cyan", "beta": "magenta", "alice": "cyan", "bob": "magenta"}


class NotSeen(Exception):
    """Something that had to hold did not; the text says what."""


class Telling:
    """Prints to the terminal, coloured if it is one. `picture`: also keep it for `save`."""

    def __init__(self, *, picture: bool = False) -> None:
        self._console = Console(
            highlight=False,
            record=picture,
            soft_wrap=True,
            width=WIDTH if picture else None,
            force_terminal=True if picture else None,
        )
        self._began = time.monotonic()
        self._steps = 0
        self.ticks = 0
        self._tick, self._cross = ("✓", "✗") if _shows_ticks() else ("ok", "no")

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._began

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print(Text(f"\n{self._steps}  {printable(title)}", style="bold"))

    def say(self, who: str, text: str) -> None:
        """Tell what somebody, or a node, does or shows."""
        self._print(Text("   ").append(f"{who:<6}", style=STYLES.get(who, "")).append(f" {printable(text)}"))

    def check(self, holds: bool, text: str, otherwise: object = "") -> None:
        """Tick what holds. Raises NotSeen if it does not; `otherwise` is what was seen in its place."""
        if not holds:
            raise NotSeen(f"{text}: {otherwise}" if otherwise != "" else text)
        self.ticks += 1
        line = f"   {self._tick} {printable(text)}"
        time_shown = f"{self.seconds:6.1f} s"
        self._print(
            Text(line, style="green").append(f"{'':{max(1, TIME_COLUMN - len(line))}}{time_shown}", "dim")
        )

    def end(self, text: str, *, good: bool = True) -> None:
        """Say the last word."""
        mark = self._tick if good else self._cross
        self._print(Text(f"\n{mark} {printable(text)}", style="bold green" if good else "bold red"))

    def plain(self, text: str) -> None:
        """Say something that belongs to no step."""
        self._print(Text(printable(text)))

    def save(self, file: Path) -> None:
        """Write what was printed as a picture (SVG) that fetches nothing."""
        svg = self._console.export_svg(title="make demo", clear=False, unique_id="demo")
        file.write_text(_plain(svg), "utf-8")

    def _print(self, text: Text) -> None:
        self._console.print(text)
        self._console.file.flush()


def shortened(text: str) -> str:
    """Cut keys and addresses in a line: nobody compares them by eye."""
    return _LONG.sub(r"\1…", text)


def _shows_ticks() -> bool:
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _plain(svg: str) -> str:
    """Drop comments, and the rules that would load a font from elsewhere: every system has a monospace one."""
    return re.sub(r"\s*(<!--.*?-->|@font-face \{.*?\})", "", svg, flags=re.DOTALL)
