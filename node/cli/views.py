"""`mailio-node rebuild`: views from nothing but the log and the blobs, while the node runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.context import Context, context_of
from node.cli.output import Json, console, errors, print_json

DRAWN_PER_SECOND = 2
"""How often the bars are drawn: at ten times a second they take a tenth of a processor from the building."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(rebuild)


def rebuild(
    context: typer.Context,
    view: Annotated[
        list[str] | None, typer.Argument(help="userdb, directory, statistics or outbox; none: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build views anew from the log, compare them with the live ones, and swap them in.

    The daemon may go on meanwhile. Ctrl-C leaves the old views as they are.

    Example: mailio-node rebuild userdb
    """
    from node.rebuild import VIEW_NAMES

    ours = context_of(context)
    reports = _rebuilt(ours, list(dict.fromkeys(view or VIEW_NAMES)))
    if as_json:
        print_json(reports)
        return
    for report in reports:
        verdict = _verdict(report)
        console.print(
            f"{report['view']}: {report['documents']} documents from {report['events']} events "
            f"in {report['seconds']:.1f} s, {verdict}, swapped in",
            soft_wrap=True,
        )
        for database, document in report["first"]:
            console.print(f"  differed: {database}/{document}", markup=False)


def _rebuilt(ours: Context, views: list[str]) -> list[dict[str, Any]]:
    """Rebuild all of these, then put each in its place."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from node.rebuild import rebuild_aside, replace_damaged

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )
    # Where nobody watches, the bars would leave empty lines before those that count.
    hidden = not errors.is_terminal
    with Progress(
        *columns, console=errors.rich, transient=True, disable=hidden, refresh_per_second=DRAWN_PER_SECOND
    ) as progress:
        tasks = {view: progress.add_task(f"rebuilding {view}", total=None, rate=0.0) for view in views}

        def show(view: str, done: int, total: int, rate: float) -> None:
            progress.update(tasks[view], completed=done, total=total, rate=rate)

        reports = rebuild_aside(ours.settings, views, show)
    for report in reports:
        if report["damaged"]:
            replace_damaged(ours.settings, report["view"])
    # All in one: without a daemon, the stores are opened for each operation.
    if sound := [report["view"] for report in reports if not report["damaged"]]:
        ours.carry_out("view.swap", {"views": sound})
    return reports


def _verdict(report: dict[str, Any]) -> str:
    if report["damaged"]:
        return "the live view was damaged"
    differs = report["differences"]
    return f"{differs} documents differed" if differs else "identical with the live view"
