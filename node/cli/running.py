"""Commands that make, run and watch a node: init, run, status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from events.errors import Misconfigured
from node.cli.context import context_of
from node.cli.output import Json, console, print_facts, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(init)
    app.command()(run)
    app.command()(status)
    app.command()(send_test)


def init(context: typer.Context) -> None:
    """Write a commented configuration for development; never overwrites one.

    Example: mailio-node --config node.toml init
    """
    file = context_of(context).file
    if not write_configuration(file):
        raise Misconfigured(f"{file}: exists already; edit it, or name another file with --config")
    console.print(f"wrote {file}; next: mailio-node --config {file} run", markup=False, soft_wrap=True)


def write_configuration(file: Path) -> bool:
    """Write the development configuration unless the file exists; whether it was written."""
    from node.reference import DEVELOPMENT, configuration_file

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise Misconfigured(f"{file}: can't be written: {error.strerror}") from error
    with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor, not a path
        stream.write(configuration_file(DEVELOPMENT))
    return True


def run(
    context: typer.Context,
    first_start: Annotated[
        bool, typer.Option("--init", help="Write a development configuration first if there is none.")
    ] = False,
) -> None:
    """Run the daemon until SIGINT or SIGTERM; then finish what was begun and exit 0.

    Example: mailio-node run --init
    """
    from node.daemon import serve

    ours = context_of(context)
    if first_start and write_configuration(ours.file):
        console.print(f"wrote {ours.file}")
    serve(ours.settings, ours.file)


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show how far log, actors and views have come.

    Example: mailio-node status --json
    """
    answer = context_of(context).carry_out("status", {})
    if as_json:
        print_json(answer)
        return
    print_facts(
        [
            ("events in the log", answer["head"]),
            ("waiting to be filed", answer["backlog"]),
            ("parked", answer["parked"]),
            ("active actors", answer["actors"]),
        ]
    )
    rows = [(name, view["position"], view["lag"]) for name, view in answer["views"].items()]
    print_table(("view", "position", "behind"), rows, "no views")


def send_test(
    context: typer.Context,
    recipient: Annotated[str, typer.Argument(help="Email of an account on this node.")],
    sender: Annotated[str, typer.Option(help="Envelope sender and author.")] = "friend@beta.example",
    subject: Annotated[str, typer.Option(help="Subject.")] = "A test message",
    file: Annotated[
        Path | None, typer.Option(help="Send this message (RFC 5322) instead.", show_default=False)
    ] = None,
) -> None:
    """Hand a message to the node's own SMTP door, as another server would.

    Example: mailio-node send-test someone@alpha.example --sender friend@beta.example
    """
    from node.cli.sending import content_of, hand_in, small_message

    settings = context_of(context).settings
    raw = content_of(file) if file else small_message(sender, recipient, subject)
    console.print(hand_in(settings.smtp.listen, sender, recipient, raw), markup=False)
