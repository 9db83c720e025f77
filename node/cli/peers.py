"""`mailio-node peers …`: the nodes that this one delivers to, and whether they answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_facts, print_json, print_table
from node.cli.queue import intervene, said

app = typer.Typer(help="List, show, retry and reset nodes that this one delivers to.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="Domain of the peer.")]


@app.command(name="list")
def list_all(context: typer.Context, as_json: Json = False) -> None:
    """List peers that something waits for, or that were dialled since the start.

    Example: mailio-node peers list
    """
    peers = context_of(context).carry_out("peers.list", {})["peers"]
    if as_json:
        print_json(peers)
        return
    columns = ("peer", "breaker", "failures", "not before", "waiting", "oldest", "delivered", "reason")
    print_table(columns, map(_row, peers), "nothing was sent yet, and nothing waits")


def _row(peer: dict[str, Any]) -> tuple[object, ...]:
    return (
        peer["domain"],
        peer["breaker"],
        peer["failures"],
        _moment(peer["until"]),
        peer["waiting"],
        _moment(peer["oldest"]),
        peer["sinceStart"]["delivered"],
        peer["reason"],
    )


def _moment(at: int) -> str:
    return moment(at) if at else ""


@app.command()
def show(context: typer.Context, domain: Domain, as_json: Json = False) -> None:
    """Show one peer: whether it answers, its keys as DNS has given them, and the last that happened to it.

    Example: mailio-node peers show mio.beta.example
    """
    answer = context_of(context).carry_out("peers.show", {"domain": domain})
    if as_json:
        print_json(answer)
        return
    history, keys, figures = answer.pop("history"), answer.pop("keys"), answer.pop("sinceStart")
    answer |= {"until": _moment(answer["until"]), "oldest": _moment(answer["oldest"])}
    print_facts([*answer.items(), *((f"{name} since the start", count) for name, count in figures.items())])
    spans = [(one["publicKey"], _span(one), "proven" if one["dnssec"] else "") for one in keys]
    print_table(("key", "in DNS", "DNSSEC"), spans, "none of its keys was needed yet")
    rows = [(moment(one["at"]), one["type"], said(one), one["actor"]) for one in history]
    print_table(("time", "event", "what", "by"), rows, "nothing has gone wrong with it")


def _span(key: dict[str, Any]) -> str:
    end = f"to {moment(key['gone'])}" if key["gone"] else "on"
    return f"from {moment(key['seen'])} {end}"


@app.command()
def retry(context: typer.Context, domain: Domain) -> None:
    """Try everything that was deferred for a peer, now.

    Example: mailio-node peers retry mio.beta.example
    """
    intervene(context, "peers.retry", domain=domain)


@app.command()
def reset(context: typer.Context, domain: Domain) -> None:
    """Forget that a peer failed: what waits for it goes on at once.

    Example: mailio-node peers reset mio.beta.example
    """
    answer = context_of(context).carry_out("peers.reset", {"domain": domain})
    console.print(f"{answer['domain']} is dialled again", markup=False)
