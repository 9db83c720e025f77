"""Records of the log on a terminal: a line each, or the whole; text from strangers is made harmless."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import typer

from node.cli.output import complain, json_text, print_facts, print_json_line, printable, shortened
from node.inspection.records import Seen

VALUE_LENGTH: Final = 70
"""Characters of one member's value in a line: a hash is 64."""

MEMBERS_LENGTH: Final = 400
"""Characters of all members in a line."""


def print_all(records: Iterable[Seen], *, as_json: bool, whole: bool = False) -> int:
    """Print records as they come; return how many. Exits with 1 in the end if some can't be decoded."""
    count, broken = 0, 0
    for seen in records:
        count += 1
        broken += bool(seen.problem) and not seen.newer
        if as_json:
            print_json_line(seen.as_json())
        elif whole:
            print_whole(seen, separated=count > 1)
        else:
            sys.stdout.write(line_of(seen) + "\n")
        if seen.problem and not seen.newer:
            sys.stdout.flush()
            complain(f"the record at position {seen.row.position} can't be decoded: {seen.problem}")
    if broken:
        sys.stdout.flush()
        raise typer.Exit(1)
    return count


def line_of(seen: Seen) -> str:
    """Return a record as one line: position, time, stream and version, type, actor, members."""
    row, metadata = seen.row, seen.metadata
    actor = shortened(metadata.actor, VALUE_LENGTH) if metadata else "?"
    place = f"{shortened(row.stream, 3 * VALUE_LENGTH)}#{row.version}"
    said = "(erased) " if seen.erased else ""
    said += f"! {shortened(seen.problem, 3 * VALUE_LENGTH)} | " if seen.problem else ""
    head = f"{row.position:>8}  {_time(seen)}  {place}  {shortened(row.topic, VALUE_LENGTH)}  {actor}"
    members = "" if seen.erased else shortened(_members(seen.members), MEMBERS_LENGTH)
    return f"{head}  {said}{members}".rstrip()


def print_whole(seen: Seen, *, separated: bool = False) -> None:
    """Print everything that a record says."""
    row, metadata = seen.row, seen.metadata
    facts: list[tuple[str, object]] = [
        ("position", row.position),
        ("stream", f"{row.stream}, version {row.version}"),
        ("type", row.topic),
        ("time", f"{_time(seen)} UTC"),
    ]
    if metadata:
        facts += [
            ("actor", metadata.actor),
            ("event id", metadata.id),
            ("correlation", metadata.correlation),
            ("causation", metadata.causation or "(the story begins here)"),
            ("software", metadata.software),
        ]
    facts.append(("hash", row.hash.hex()))
    if seen.problem:
        facts.append(("problem", seen.problem))
    if seen.erased:
        facts.append(("erased", "the keys of those whom it was about were destroyed"))
    if separated:
        sys.stdout.write("\n")
    print_facts(facts)
    if not seen.erased:
        sys.stdout.write(json_text(seen.members, indent=2) + "\n")


def _time(seen: Seen) -> str:
    at = seen.metadata.at if seen.metadata else None
    try:
        return (
            "?" if at is None else datetime.fromtimestamp(at / 1000, UTC).isoformat(" ", "milliseconds")[:23]
        )
    except (OverflowError, ValueError, OSError):
        return f"{at} ms"


def _members(members: Any) -> str:
    if not isinstance(members, dict):
        return _value(members)
    return " ".join(f"{printable(str(name))}={_value(value)}" for name, value in members.items())


def _value(value: Any) -> str:
    """Write a member short: bare words as they are, all else as JSON."""
    if isinstance(value, str) and value and value.isprintable() and " " not in value:
        return shortened(value, VALUE_LENGTH)
    return shortened(msgspec.json.encode(value).decode(), VALUE_LENGTH)
