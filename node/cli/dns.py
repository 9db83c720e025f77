"""`mailio-node dns`: what this node's domains have to publish, and what other domains are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import MailioError
from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_facts, print_json, print_table

if TYPE_CHECKING:
    from node.discovery.domains import Discovered
    from node.discovery.publishing import Difference
    from node.settings import Settings

app = typer.Typer()


@app.callback(invoke_without_command=True)
def records(context: typer.Context, as_json: Json = False) -> None:
    """Print the records to publish for each of the node's domains, and compare them with DNS.

    Exits 1 when something is missing, different or too much, 75 when DNS gave no answer.

    Example: mailio-node dns
    """
    if context.invoked_subcommand is not None:
        return
    from node.discovery.publishing import own_names, survey_once, zone_lines

    settings = context_of(context).settings
    own = own_names(settings)
    import asyncio

    differences = asyncio.run(survey_once(settings))
    if as_json:
        print_json({"zone": zone_lines(own), "records": [_difference(one) for one in differences]})
    else:
        for line in zone_lines(own):
            print(line)  # The console would turn tabs into blanks.
        console.print()
        _print_differences(differences)
    _end(differences)


def _print_differences(differences: Sequence[Difference]) -> None:
    rows = [
        (one.state, one.wanted.kind, one.wanted.name, ", ".join(one.published) or "-", one.advice)
        for one in differences
    ]
    print_table(("state", "type", "name", "published", "what to do"), rows, "")
    for one in differences:
        if one.wrong:
            console.print(f"{one.wanted.kind} {one.wanted.name}: {one.wanted.why}", markup=False)


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "name": one.wanted.name,
        "type": one.wanted.kind,
        "wanted": one.wanted.value,
        "forbidden": one.wanted.forbidden,
        "why": one.wanted.why,
        "state": one.state,
        "published": one.published,
        "ttl": one.ttl,
        "advice": one.advice,
    }


def _end(differences: Sequence[Difference]) -> None:
    from node.discovery.publishing import State

    states = {one.state for one in differences} - {State.FINE}
    if states:
        raise typer.Exit(75 if states == {State.UNKNOWN} else 1)


@app.command()
def lookup(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(help="Domain, or an email address of it.")],
    as_json: Json = False,
) -> None:
    """Show what kind of domain it is, and why: names asked, records seen, how long they are remembered.

    Exits 1 when its record is malformed, 75 when DNS gave no answer.

    Example: mailio-node dns lookup beta.example
    """
    settings = context_of(context).settings
    import asyncio

    found = asyncio.run(_looked_up(settings, domain.rpartition("@")[2]))
    if as_json:
        print_json(_facts(found))
    else:
        _print_domain(found)
    try:
        found.require()
    except MailioError as error:
        raise typer.Exit(75 if error.temporary else 1) from None


async def _looked_up(settings: Settings, domain: str) -> Discovered:
    from events.log.clock import SystemClock
    from node.discovery.discovery import Discovery

    discovery = Discovery(settings.discovery, SystemClock())
    try:
        return await discovery.domains.look_up(domain)
    finally:
        await discovery.close()


def _kind(found: Discovered) -> tuple[str, str]:
    """Return the kind and why it is that."""
    try:
        kind = found.kind
    except MailioError as error:
        return "unknown", str(error)
    if found.record is not None:
        return kind, f"{found.server} publishes a Mailio record"
    mail = "it has an MX" if found.takes_mail else found.domain().mx_check_error
    return kind, f"no name asked has a Mailio record; {mail}"


def _print_domain(found: Discovered) -> None:
    domain = found.domain()
    kind, why = _kind(found)
    facts = [("domain", found.name), ("kind", kind), ("why", why)]
    if domain.supports_mailio:
        facts += [("API host", domain.mailio_did_domain), ("key", domain.mailio_public_key)]
    print_facts([*facts, ("remembered until", f"{moment(found.until)} UTC")])
    console.print()
    print_table(("type", "name", "answer", "ttl", "record", "remark"), _rows(found), "")


def _rows(found: Discovered) -> list[tuple[object, ...]]:
    mail = found.mail
    rows: list[tuple[object, ...]] = [
        ("MX", mail.name, mail.outcome, mail.ttl, ", ".join(mail.values) or "-", mail.reason)
    ]
    for one in found.asked:
        answer = one.answer
        seen = one.reading.seen or (("-", answer.reason),)
        rows += [("TXT", answer.name, answer.outcome, answer.ttl, text, remark) for text, remark in seen]
    return rows


def _facts(found: Discovered) -> dict[str, Any]:
    kind, why = _kind(found)
    answers = [found.mail, *(one.answer for one in found.asked)]
    return {
        "kind": kind,
        "why": why,
        "domain": found.domain(),
        "until": found.until,
        "answers": answers,
        "records": [
            {"name": one.answer.name, "text": text, "remark": remark}
            for one in found.asked
            for text, remark in one.reading.seen
        ],
    }
