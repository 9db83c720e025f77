"""How commands show things: tables for people, JSON for scripts, one line for errors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]

PIPE_COLUMNS = 10_000
"""Width when no terminal reads: a script or a pager gets whole cells, never shortened ones."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
errors = Console(stderr=True, highlight=False)


def complain(text: str) -> None:
    """Print one line on standard error; control characters of remote text become visible."""
    print(f"mailio-node: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """Make control characters and line breaks visible, so that no text can rule the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def print_json(item: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(item), indent=2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their columns, or the sentence `empty` when there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
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


def moment(milliseconds: int) -> str:
    """Write a time (ms since the Unix epoch) as UTC text."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
