"""`mailio-node queue …`: what is on its way to other nodes, and what to do about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_facts, print_json, print_table, printable

app = typer.Typer(
    help="List, show, retry, hold, release and drop what waits to be delivered.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="Id from `mailio-node queue list`; or use --destination.")]
Destination = Annotated[str, typer.Option(help="Only what goes to this domain.")]
State = Annotated[str, typer.Option(help="Only what is queued, trying, deferred or held.")]


@app.command(name="list")
def list_all(
    context: typer.Context,
    destination: Destination = "",
    state: State = "",
    limit: Annotated[int, typer.Option(help="Deliveries to show at the most.")] = 100,
    as_json: Json = False,
) -> None:
    """List what waits, by destination, the oldest first.

    Example: mailio-node queue list --destination beta.example --state deferred
    """
    wanted = {"destination": destination, "state": state, "limit": limit}
    answer = context_of(context).carry_out("queue.list", wanted)
    if as_json:
        print_json(answer)
        return
    columns = ("id", "what", "state", "attempts", "next", "reason")
    print_table(columns, map(_row, answer["deliveries"]), "nothing waits to be delivered")
    if answer["total"] > len(answer["deliveries"]):
        console.print(f"{answer['total']} in all; --limit shows more")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    due = moment(one["next"]) if one["state"] in {"queued", "deferred"} else ""
    return one["id"], one["kind"], one["state"], one["attempts"], due, one["reason"]


@app.command()
def show(
    context: typer.Context,
    delivery_id: Annotated[str, typer.Argument(help="Id from `mailio-node queue list`.")],
    as_json: Json = False,
) -> None:
    """Show one delivery and all that happened to it, also when it has ended.

    Example: mailio-node queue show beta.example:01a2…
    """
    answer = context_of(context).carry_out("queue.show", {"id": delivery_id})
    if as_json:
        print_json(answer)
        return
    history = answer.pop("history")
    recipients, reports = answer.pop("recipients"), answer.pop("reports")
    for name in ("scheduled", "next", "expires"):
        answer[name] = moment(answer[name])
    confirmed = [f"{one['code']} {one['address']} {one.get('text', '')}" for one in reports.values()]
    print_facts([*answer.items(), ("to", ", ".join(recipients)), ("reported", "; ".join(confirmed) or "-")])
    rows = [(moment(one["at"]), one["type"], one.get("code", ""), said(one), one["actor"]) for one in history]
    print_table(("time", "event", "code", "what", "by"), rows, "")


def said(event: dict[str, Any]) -> str:
    """Return what an event tells besides its type."""
    return str(event.get("reason") or event.get("text") or "")


def intervene(context: typer.Context, operation: str, **wanted: str) -> None:
    """Carry it out for one delivery (`id`), or for all of a destination, and say what was done.

    Exits 1 when some were refused.
    """
    answer = context_of(context).carry_out(operation, wanted)
    for key, why in answer["refused"].items():
        console.print(printable(f"{key}: {why}"), markup=False)
    console.print(f"{len(answer['done'])} done", markup=False)
    if answer["refused"]:
        raise typer.Exit(1)


@app.command()
def retry(
    context: typer.Context, delivery_id: Id = "", destination: Destination = "", state: State = ""
) -> None:
    """Try now, whatever is known of the destination; everything for a domain with --destination.

    Example: mailio-node queue retry --destination beta.example
    """
    intervene(context, "queue.retry", id=delivery_id, destination=destination, state=state)


@app.command()
def hold(
    context: typer.Context,
    delivery_id: Id = "",
    destination: Destination = "",
    state: State = "",
    reason: Annotated[str, typer.Option(help="Why; kept in the log and shown to the sender.")] = "",
) -> None:
    """Keep it back; it does not expire meanwhile.

    Example: mailio-node queue hold beta.example:01a2… --reason "looks odd"
    """
    wanted = {"id": delivery_id, "destination": destination, "state": state, "reason": reason}
    intervene(context, "queue.hold", **wanted)


@app.command()
def release(context: typer.Context, delivery_id: Id = "", destination: Destination = "") -> None:
    """Let what was held go on.

    Example: mailio-node queue release --destination beta.example
    """
    state = "" if delivery_id else "held"
    intervene(context, "queue.release", id=delivery_id, destination=destination, state=state)


@app.command()
def drop(
    context: typer.Context,
    delivery_id: Id = "",
    destination: Destination = "",
    state: State = "",
    reason: Annotated[str, typer.Option(help="Why; kept in the log and shown to the sender.")] = "",
) -> None:
    """Give it up. The sender sees that it failed, and why.

    Example: mailio-node queue drop --destination gone.example --reason "domain was sold"
    """
    wanted = {"id": delivery_id, "destination": destination, "state": state, "reason": reason}
    intervene(context, "queue.drop", **wanted)
