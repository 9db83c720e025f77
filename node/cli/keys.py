"""`mailio-node keys …`: the keys by which this node signs, and changing them without a gap."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_facts, print_json, print_table

app = typer.Typer(help="List, rotate and retire the node's own keys.", no_args_is_help=True)


@app.command(name="list")
def list_all(context: typer.Context, as_json: Json = False) -> None:
    """List the node's keys, say how far a change of keys is, and what comes next.

    Example: mailio-node keys list
    """
    from node.crypto.keys import load_server_keys
    from node.key_rotation import key_list

    settings = context_of(context).settings
    _print(key_list(load_server_keys(settings.node.data / "keys" / "server.json"), settings.keys), as_json)


@app.command()
def rotate(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Don't ask DNS and don't wait: for a stolen key, or a trial.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take the next step of a change of keys: announce a new one, put it first, sign by it.

    Between two steps DNS has to say what `mailio-node dns` prints, for as long as old records are remembered.
    Exits 75 when it is too early, 1 when DNS says something else.

    Example: mailio-node keys rotate
    """
    _print(context_of(context).carry_out("keys.rotate", {"force": force}), as_json)


@app.command()
def retire(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Which key; else the live one that does not sign.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Don't wait for the end of its grace.")] = False,
    stolen: Annotated[
        bool, typer.Option("--stolen", help="Somebody else has it: its client tokens end now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Retire the old key when its grace is over, or give up a new one. Its private half is destroyed.

    Exits 75 when it is too early.

    Example: mailio-node keys retire
    """
    arguments = {"address": address, "force": force, "stolen": stolen}
    _print(context_of(context).carry_out("keys.retire", arguments), as_json)


def _print(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    rows = [
        (one["address"], one["state"], moment(one["created"]), one["publicKey"], _when(one.get("retired", 0)))
        for one in told["keys"]
    ]
    print_table(("key", "state", "made", "public key", "retired"), rows, "")
    console.print()
    facts = [("stage", told["stage"]), ("next", told["next"])]
    if told["waitUntil"]:
        facts.append(("not before", _when(told["waitUntil"])))
    print_facts(facts)


def _when(at: int) -> str:
    return f"{moment(at)} UTC" if at else "-"
