"""`mailio-node handshake …`: whom an owner lets in, and the links by which others ask.

Two kinds of commands. What an owner says of a sender is signed with the keys of an account's key file and
written through the sync door, as an app on a phone would: the node can't say it for them. Reading a book and
making a link is the operator's, and the log says so.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from events.consent import Level, SignupPurpose
from events.errors import Busy, Forbidden, InvalidInput, MailioError, Misconfigured
from node.cli.context import Context, context_of
from node.cli.output import Json, console, moment, print_facts, print_json, print_table
from node.cli.statements import Keys, Statement, signed

app = typer.Typer(
    help="Accept and revoke senders with an owner's keys; read books; make links.", no_args_is_help=True
)

Owner = Annotated[str, typer.Argument(help="Email of the account; its key file must be here.")]
Name = Annotated[str, typer.Argument(help="Email or Mailio address of the owner.")]
Sender = Annotated[str, typer.Argument(help="An email, @ and a domain for everybody there, or a did:web.")]
KeyFile = Annotated[Path | None, typer.Option("--keys", help="The account's key file.", show_default=False)]

ANSWER_SECONDS = 30
"""How long the node may take to answer."""


class DoorAnswered(MailioError):
    """The sync door said no."""


@app.command()
def accept(
    context: typer.Context,
    owner: Owner,
    sender: Sender,
    *,
    level: Annotated[Level, typer.Option(help="How sure the owner is of who that is.")] = Level.NONE,
    purpose: Annotated[
        str,
        typer.Option(help="What a signup is for: " + ", ".join(each.name.lower() for each in SignupPurpose)),
    ] = "",
    minutes: Annotated[int, typer.Option(help="Minutes between two mails at least; 0: no limit.", min=0)] = 0,
    keys: KeyFile = None,
) -> None:
    """Let a sender in: from now on their mail goes to the inbox.

    Example: mailio-node handshake accept someone@alpha.example friend@beta.example
    """
    statement = Statement(status="accepted", level=level.value, purpose=_purpose(purpose), minutes=minutes)
    _write(context_of(context), owner, sender, statement, keys)


@app.command()
def reject(context: typer.Context, owner: Owner, sender: Sender, keys: KeyFile = None) -> None:
    """Answer a request with no, or take an acceptance back: the sender is a stranger again.

    Example: mailio-node handshake reject someone@alpha.example asker@gamma.example
    """
    _write(context_of(context), owner, sender, Statement(status="notfound"), keys)


@app.command()
def revoke(context: typer.Context, owner: Owner, sender: Sender, keys: KeyFile = None) -> None:
    """Shut a sender out: from now on they are refused while they try.

    Example: mailio-node handshake revoke someone@alpha.example pest@beta.example
    """
    _write(context_of(context), owner, sender, Statement(status="revoked"), keys)


@app.command(name="list")
def list_all(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """List an owner's handshakes and open links. Needs no key of the owner.

    Example: mailio-node handshake list someone@alpha.example
    """
    found = context_of(context).carry_out("handshake.list", {"name": name})
    if as_json:
        print_json(found)
        return
    rows = [_row(each) for each in found["handshakes"]]
    print_table(("status", "sender", "type", "level", "limit", "since (UTC)"), rows, "the book is empty")
    for offer in found["offers"]:
        console.print(f"open link {offer['id']}, until {moment(offer['expires'])} UTC")


@app.command()
def show(
    context: typer.Context,
    name: Name,
    sender: Annotated[str, typer.Argument(help="An email, @ and a domain, a did:web, or a handshake id.")],
    as_json: Json = False,
) -> None:
    """Show the entry of an owner's book that decides about a sender.

    Example: mailio-node handshake show someone@alpha.example friend@beta.example
    """
    found = context_of(context).carry_out("handshake.show", {"name": name, "sender": sender})
    print_json(found) if as_json else print_facts(found.items())


@app.command()
def offer(context: typer.Context, name: Name) -> None:
    """Make a link by which somebody may ask the owner for a handshake, once. The log says that you made it.

    Example: mailio-node handshake offer someone@alpha.example
    """
    print(context_of(context).carry_out("handshake.offer", {"name": name})["link"])


@app.command()
def withdraw(
    context: typer.Context,
    name: Name,
    link: Annotated[str, typer.Argument(help="Id of an open link, from `mailio-node handshake list`.")],
) -> None:
    """Withdraw a link that nobody has used yet.

    Example: mailio-node handshake withdraw someone@alpha.example 0123456789abcdef
    """
    context_of(context).carry_out("handshake.withdraw", {"name": name, "id": link})
    console.print(f"{link} is withdrawn")


@app.command()
def default(context: typer.Context) -> None:
    """Print what the node says to senders whom no owner has let in, signed with its key, as JSON.

    Example: mailio-node handshake default
    """
    print_json(context_of(context).carry_out("handshake.default", {}))


def _row(shown: dict[str, Any]) -> tuple[str, ...]:
    minutes = shown["frequencyMinutes"]
    limit = f"1 in {minutes} min" if minutes else ""
    sender = shown["sender"] or shown["id"]
    return shown["status"], sender, shown["type"], shown["level"], limit, moment(shown["created"])


def _purpose(name: str) -> int:
    if not name:
        return 0
    if name.upper() not in SignupPurpose.__members__:
        raise InvalidInput(f"--purpose: one of {', '.join(each.name.lower() for each in SignupPurpose)}")
    return SignupPurpose[name.upper()].value


def _write(ours: Context, owner: str, sender: str, statement: Statement, file: Path | None) -> None:
    keys = _read_keys(file or ours.settings.node.data / "accounts" / f"{owner}.json")
    document = signed(keys, sender, statement, ours.settings.node.server_domain)
    path = f"/{keys.database}/{document['_id']}"
    known = _request(ours, keys, "GET", path, missing_is_fine=True)
    if known:
        document["_rev"] = known["_rev"]
    _request(ours, keys, "PUT", path, document)
    console.print(f"{owner}: {sender} is {_STATES[statement.status]}", markup=False)


_STATES = {"accepted": "accepted", "revoked": "revoked", "notfound": "a stranger"}


def _read_keys(path: Path) -> Keys:
    from node.crypto.base64_text import from_base64

    try:
        keys = msgspec.json.decode(path.read_bytes(), type=Keys)
        for seed in (keys.signing_seed, keys.agreement_seed):
            from_base64(seed, length=32)
    except FileNotFoundError:
        raise Misconfigured(f"{path}: no such key file; name it with --keys") from None
    except (OSError, msgspec.MsgspecError, MailioError) as error:
        raise Misconfigured(f"{path}: not a key file of `mailio-node account add`: {error}") from error
    return keys


def _request(
    ours: Context, keys: Keys, method: str, path: str, body: Any = None, *, missing_is_fine: bool = False
) -> Any:
    pair = f"{keys.address}:{keys.database_password}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(pair).decode()}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    door = f"http://{ours.settings.http.listen}"
    request = urllib.request.Request(door + path, data, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and missing_is_fine:
            return None
        raise _refusal(error) from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", error)
        raise Misconfigured(f"no node answers at {door}: {why}; start it with `mailio-node run`") from None


def _refusal(error: urllib.error.HTTPError) -> MailioError:
    try:
        told = json.load(error)
        text = str(told.get("reason") or told.get("message") or told)
    except ValueError:
        text = error.reason
    if error.code == 401:
        text += " Is the password in the key file older than the last `mailio-node account password`?"
    kinds = {400: InvalidInput, 403: Forbidden, 429: Busy, 503: Busy}
    return kinds.get(error.code, DoorAnswered)(f"the node answered {error.code}: {text}")
