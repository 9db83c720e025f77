"""`mailio-node parked …`: what could not be processed, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli.context import context_of
from node.cli.output import Json, console, print_json, print_table

app = typer.Typer(help="List, show, retry and drop what could not be processed.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id from `mailio-node parked list`.")]


@app.command(name="list")
def list_all(context: typer.Context, as_json: Json = False) -> None:
    """List what is parked, and why.

    Example: mailio-node parked list
    """
    items = context_of(context).carry_out("parked.list", {})["parked"]
    if as_json:
        print_json(items)
        return
    rows = [(item["id"], item["what"], item["position"], item["reason"]) for item in items]
    print_table(("id", "what", "position", "reason"), rows, "nothing is parked")


@app.command()
def show(context: typer.Context, parked_id: Id) -> None:
    """Show one parked item with the event that it is about, as JSON.

    Example: mailio-node parked show userdb:42
    """
    print_json(context_of(context).carry_out("parked.show", {"id": parked_id}))


@app.command()
def retry(context: typer.Context, parked_id: Id) -> None:
    """Try it again; if it fails again, it stays parked and the reason is printed.

    Example: mailio-node parked retry userdb:42
    """
    context_of(context).carry_out("parked.retry", {"id": parked_id})
    console.print(f"{parked_id} is done")


@app.command()
def drop(
    context: typer.Context,
    parked_id: Id,
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
) -> None:
    """Give it up. The log keeps the event, and that you dropped it.

    Example: mailio-node parked drop userdb:42 --reason "test data"
    """
    context_of(context).carry_out("parked.drop", {"id": parked_id, "reason": reason})
    console.print(f"{parked_id} is dropped")
