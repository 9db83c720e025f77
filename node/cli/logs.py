"""`mailio-node log …`: the records of the log themselves, read beside a running daemon."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from events.errors import NotFound
from node.cli.context import context_of
from node.cli.output import complain, print_json, progress

app = typer.Typer(help="Show, follow and search the records of the log; sign it.", no_args_is_help=True)

FOLLOW_SECONDS = 0.2
"""How often `tail --follow` looks for new records: no bell rings across processes."""

MOST = (1 << 63) - 1
"""Records that a log may hold: positions are integers of SQLite."""

JsonLines = Annotated[
    bool, typer.Option("--json", help="Print a JSON object a line, complete, instead of short lines.")
]


@app.command()
def show(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="Position, event id (32 hex digits), or name of a stream.")],
    as_json: JsonLines = False,
) -> None:
    """Show one record, or all of a stream, with everything that they say.

    Example: mailio-node log show 42
    """
    from node.cli.records import print_all
    from node.inspection.opening import opened
    from node.inspection.searching import shown

    with opened(context_of(context).settings.node.data) as (reader, codec):
        if not print_all(shown(what, reader, codec), as_json=as_json, whole=True):
            raise NotFound(f"the log has no record, event id or stream {what}")


@app.command()
def tail(
    context: typer.Context,
    number: Annotated[
        int, typer.Option("-n", "--number", min=0, max=MOST, help="Newest records to show.")
    ] = 10,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new ones; Ctrl-C ends it.")
    ] = False,
    as_json: JsonLines = False,
) -> None:
    """Show the newest records, a line each, and with --follow the new ones as they come.

    Example: mailio-node log tail -n 20 --follow
    """
    from node.cli.records import print_all
    from node.inspection.opening import opened
    from node.inspection.searching import newest

    with opened(context_of(context).settings.node.data) as (reader, codec):
        print_all(newest(reader, codec, number, _pause if follow else None), as_json=as_json)


def _pause() -> None:
    sys.stdout.flush()
    time.sleep(FOLLOW_SECONDS)


@app.command()
def grep(  # noqa: PLR0917 - the options of one command
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Text in the members, written as JSON; none: any.")] = "",
    regexp: Annotated[bool, typer.Option("-E", "--regexp", help="TEXT is a regular expression.")] = False,
    ignore_case: Annotated[
        bool, typer.Option("-i", "--ignore-case", help="Upper and lower case alike.")
    ] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Event type; may be given several times.")
    ] = None,
    stream: Annotated[str, typer.Option(help="Stream; the beginning of names with * at the end.")] = "",
    actor: Annotated[str, typer.Option(help="Who appended it; the beginning of names with *.")] = "",
    since: Annotated[str, typer.Option(help="Only after this position or time.")] = "",
    until: Annotated[str, typer.Option(help="Only up to this position or time.")] = "",
    correlation: Annotated[
        str, typer.Option(help="Only the story that this event id (or position) belongs to.")
    ] = "",
    as_json: JsonLines = False,
) -> None:
    """Search the log: filters on every record's own facts, and a text in what it says.

    --since and --until take a position; a time in ISO 8601, in UTC unless it names a zone; `now`; or how
    long ago, as in -90s, -30m, -2h, -7d. Exits 1 when nothing was found, or a record can't be decoded.

    Example: mailio-node log grep friend@beta.example --type MessageFiled --since -2h
    """
    from events.log.clock import SystemClock
    from node.cli.records import print_all
    from node.inspection.opening import opened
    from node.inspection.places import position_of
    from node.inspection.searching import Wanted, correlation_of, search

    now = SystemClock().now
    with opened(context_of(context).settings.node.data) as (reader, codec):
        wanted = Wanted(
            types=tuple(kind or ()),
            stream=stream,
            actor=actor,
            after=position_of(since, reader, now) if since else 0,
            upto=position_of(until, reader, now) if until else None,
            correlation=correlation_of(correlation, reader, codec) if correlation else "",
            text=text,
            pattern=regexp,
            ignore_case=ignore_case,
        )
        with progress("searching", between_lines=True) as told:
            found = print_all(search(reader, codec, wanted, told), as_json=as_json)
    if not found:
        _name_unknown(wanted.types)
        raise typer.Exit(1)


def _name_unknown(types: Sequence[str]) -> None:
    """Say which of these types this program does not have: they may be misspelt, or a newer program's."""
    from events.types import known_types

    for name in sorted(set(types) - known_types().keys()):
        complain(f"this program knows no event type {name}")


@app.command()
def checkpoint(context: typer.Context) -> None:
    """Sign the log as it is now, and print the checkpoint: keep it where nobody reaches who reaches the log.

    `mailio-node verify --checkpoint FILE` later proves that the log still contains exactly that history.

    Example: mailio-node log checkpoint > checkpoint.json
    """
    print_json(context_of(context).carry_out("log.checkpoint", {}))
