"""How commands show things: tables for people, JSON for scripts, one line for errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]

PIPE_COLUMNS = 10_000
"""Width when no terminal reads: a script or a pager gets whole cells, never shortened ones."""


class Terminal:
    """Standard output or standard error, by rich, which is imported when something is first shown.

    Help and completion show nothing by it, and would wait for it longer than for all the rest.
    """

    def __init__(self, *, stderr: bool) -> None:
        self._stderr = stderr

    @cached_property
    def rich(self) -> Console:
        """The console itself."""
        from rich.console import Console

        if self._stderr:
            return Console(stderr=True, highlight=False)
        return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self.rich.is_terminal

    def print(self, shown: object = "", *, markup: bool = True, soft_wrap: bool = False) -> None:
        """Print something that rich can show."""
        self.rich.print(shown, markup=markup, soft_wrap=soft_wrap)


console = Terminal(stderr=False)
errors = Terminal(stderr=True)


def complain(text: str) -> None:
    """Print one line on standard error; control characters of remote text become visible."""
    print(f"mailio-node: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """Make control characters and line breaks visible, so that no text can rule the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def json_text(item: Any, *, indent: int = 0) -> str:
    """Write JSON, on one line unless `indent` is given; what could rule a terminal is escaped."""
    encoded = msgspec.json.encode(item)
    text = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    return text if text.isprintable() else _UNUSUAL.sub(_escaped, text)


_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]


def print_json(item: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json_text(item, indent=2) + "\n")


def print_json_line(item: Any) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json_text(item) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their columns, or the sentence `empty` when there are none.

    Cells are text, never markup: strangers write some of them.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if table.row_count:
        console.print(table)
    else:
        console.print(empty)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print name and value, one pair a line."""
    pairs = [(name, printable(str(value))) for name, value in facts]
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        console.print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)


def shortened(text: str, length: int) -> str:
    """Cut a text to so many characters, control characters made visible."""
    text = printable(text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


@contextmanager
def progress(what: str, *, between_lines: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while a block runs; what it gives is told (done, total).

    Not where nobody watches, nor where it would stand `between_lines` of the output itself.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not errors.is_terminal or (between_lines and sys.stdout.isatty())
    with Progress(*columns, console=errors.rich, transient=True, disable=hidden) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def moment(milliseconds: int) -> str:
    """Write a time (ms since the Unix epoch) as UTC text."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
