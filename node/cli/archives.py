"""`mailio-node account export` and `account import`: a mailbox as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.backups import progress_bar
from node.cli.context import context_of
from node.cli.output import Json, moment, print_facts, print_json


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(name="export")(export)
    app.command(name="import")(import_)


def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Email or Mailio address of the account.")],
    file: Annotated[Path, typer.Argument(help="File to write, *.tar or *.tar.gz.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write an account and its whole mailbox to a file: events, blobs, and mbox files for any mail program.

    The file is signed by the node and not encrypted. A running daemon is not disturbed.

    Example: mailio-node account export someone@alpha.example someone.tar.gz
    """
    from node.archive.exporting import export as carry_out

    with progress_bar() as tell:
        done = carry_out(context_of(context).settings, name, file, tell)
    if as_json:
        print_json(done)
        return
    print_facts(
        [
            ("file", f"{done.file} ({done.size:,} bytes)"),
            ("account", f"{done.email}, {done.address}"),
            ("content", f"{done.events} events, {done.blobs} blobs, {done.mails} mails as mbox"),
            ("signed by", done.node),
        ]
    )


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An archive that `account export` wrote.", show_default=False)],
    email: Annotated[str, typer.Option(help="Email of the account here; else as it was there.")] = "",
    node: Annotated[str, typer.Option(help="Address of the node that must have signed the archive.")] = "",
    as_json: Json = False,
) -> None:
    """Bring an account from another node in, with its mailbox and history; all of it or nothing.

    The archive is checked before anything is done. Its signature says which node wrote it, not that this node
    can be trusted: ask there for its address and name it with --node.

    Example: mailio-node account import someone.tar.gz --email someone@alpha.example
    """
    arguments = {"file": str(file.absolute()), "email": email, "node": node}
    with progress_bar() as tell:

        def show(told: dict[str, Any]) -> None:
            tell(told["stage"], told["done"], max(told["total"], 1))

        answer = context_of(context).carry_out("account.import", arguments, show)
    if as_json:
        print_json(answer)
        return
    print_facts(
        [
            ("account", f"{answer['email']}, {answer['address']}"),
            ("content", f"{answer['events']} events, {answer['blobs']} blobs"),
            ("from", f"node {answer['node']} ({answer['domain']}), {moment(answer['exported'])} UTC"),
        ]
    )
