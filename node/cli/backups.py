"""Commands that keep a second copy: backup, restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from events.errors import Misconfigured
from node.cli.context import Context, context_of
from node.cli.output import Json, console, errors, moment, print_json, printable

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.", show_default=False)]
Point = Annotated[str | None, typer.Option(help="Name of a point; else the newest.", show_default=False)]

Tell = Callable[[str, int, int], None]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(backup)
    app.command()(restore)


def backup(
    context: typer.Context,
    folder: Folder,
    keep: Annotated[int, typer.Option(min=1, help="Points to keep, the new one included.")] = 3,
    as_json: Json = False,
) -> None:
    """Add a point to a backup of this node, which may be running; copy only what is new.

    A point holds the log, the blobs, the keys and the configuration as of one moment, and is signed by the
    node. An interrupted run leaves earlier points as they were. Keep the folder on another disk, and private:
    the node's keys are in it.

    Example: mailio-node backup /mnt/backup/mailio
    """
    from node.backup.making import make

    ours = context_of(context)
    with progress_bar() as tell:
        made = make(ours.settings, ours.file, folder, keep=keep, tell=tell)
    if as_json:
        print_json(made)
        return
    console.print(
        f"point {made.point}: {made.position} events, {made.size:,} bytes, {made.copied:,} of them copied "
        f"now, in {made.seconds:.1f} s",
        soft_wrap=True,
    )
    console.print(f"points kept: {', '.join(made.points)}", soft_wrap=True)
    for name in made.damaged:
        console.print(f"point {name} is damaged: see mailio-node verify --backup {folder} --point {name}")


def restore(
    context: typer.Context,
    folder: Folder,
    into: Annotated[
        Path | None, typer.Option(help="Data folder to make; else the configured one.", show_default=False)
    ] = None,
    point: Point = None,
    as_json: Json = False,
) -> None:
    """Make a node's data folder from a backup, after checking all of it.

    The place must be empty: nothing is ever overwritten. Whoever was logged in has to log in again.

    Example: mailio-node restore /mnt/backup/mailio --into /var/lib/mailio
    """
    from node.backup.restoring import restore as carry_out

    ours = context_of(context)
    if into is None and not ours.file.exists():
        raise Misconfigured(f"{ours.file}: no such file; name the data folder with --into")
    data = into if into is not None else ours.settings.node.data
    with progress_bar() as tell:
        done = carry_out(folder, data.absolute(), point, tell)
    if as_json:
        print_json(done)
        return
    console.print(f"{done.data}: restored point {done.point} ({done.position} events)", soft_wrap=True)
    console.print(f"node {printable(done.node)}, {printable(done.domain)}")
    if done.configuration:
        console.print(f"the configuration as it was: {done.configuration}", soft_wrap=True)
    first = "a configuration whose node.data is this folder, " if into is not None else ""
    console.print(f"next: {first}mailio-node doctor, then mailio-node run")


def verify_backup(ours: Context, folder: Path, point: str | None, *, as_json: bool) -> None:
    """Check a point and print what was found; exit 1 when it is not sound."""
    from node.backup.checking import check

    with progress_bar() as tell:
        checked = check(folder, point, tell, node=_own_addresses(ours))
    if as_json:
        print_json(msgspec.to_builtins(checked) | {"sound": checked.sound})
    else:
        state = "everything is there and right" if checked.sound else "not sound"
        console.print(f"point {checked.point}: {state}")
        if checked.node:
            what = f"{moment(checked.at)} UTC, {checked.position} events, {checked.blobs} blobs"
            console.print(f"node {checked.node}, {printable(checked.domain)}: {what}", soft_wrap=True)
        for problem in checked.problems:
            console.print(f"  {printable(problem)}", markup=False, soft_wrap=True)
    if not checked.sound:
        raise typer.Exit(1)


def _own_addresses(ours: Context) -> tuple[str, ...]:
    """Addresses of the node that is configured here, by all its keys; none on a machine that has none."""
    from node.crypto.keys import load_server_keys

    try:
        return load_server_keys(ours.settings.node.data / "keys" / "server.json").addresses
    except Misconfigured:
        return ()


@contextmanager
def progress_bar() -> Iterator[Tell]:
    """Show what is being done and how far it is, where somebody watches."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors.rich, transient=True, disable=not errors.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=total)

        yield tell
