"""`mailio-node account …`: the people of this node."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from events.consent import Level
from events.errors import InvalidInput, MailioError, Misconfigured
from node.cli.context import Context, context_of
from node.cli.output import (
    Json,
    complain,
    console,
    errors,
    moment,
    print_facts,
    print_json,
    print_table,
    printable,
)

app = typer.Typer(
    help="Add, list, show, disable, enable, erase, export and import accounts.", no_args_is_help=True
)

PASSWORD_BYTES = 24
"""Randomness of a database password that the command makes: 192 bits, 32 characters."""


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


Name = Annotated[str, typer.Argument(help="Email or Mailio address of the account.")]


@app.command()
def add(
    context: typer.Context,
    email: Annotated[str, typer.Argument(help="Email of the new account, in one of the node's domains.")],
    name: Annotated[str, typer.Option(help="Name to show.")] = "",
    keys: Annotated[
        Path | None, typer.Option(help="Where to write the user's key file.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make keys, Mailio address and DID document for somebody, and open their account.

    The private keys and the database password are written to a file that only you can read. Give it to
    the user by a safe way and delete it: the node keeps none of it.

    Example: mailio-node account add someone@alpha.example
    """
    # Imported here: libsodium is not needed for any other command of this group.
    from events.identity import normalise_email, userdb_name
    from node.crypto.base64_text import to_base64
    from node.crypto.keys import UserKeys

    ours = context_of(context)
    user = UserKeys.generate()
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    email = normalise_email(email)
    path = keys or ours.settings.node.data / "accounts" / f"{email}.json"
    secret = {
        "email": email,
        "address": user.address,
        "signingSeed": to_base64(user.seed),
        "agreementSeed": to_base64(user.agreement_seed),
        "databasePassword": password,
        "database": userdb_name(user.address),
    }
    request = {
        "email": email,
        "signingKey": to_base64(user.public_key),
        "agreementKey": to_base64(user.agreement_public_key),
        "databasePassword": password,
        "displayName": name,
    }
    # The file comes first: an account whose keys could not be written down would be nobody's.
    _write_private(path, secret)
    try:
        answer = ours.carry_out("account.add", request)
    except BaseException as error:
        _settle(path, email, error)
        raise
    if as_json:
        print_json(answer | {"keyFile": str(path), "database": secret["database"]})
        return
    print_facts(
        [
            ("email", answer["email"]),
            ("address", answer["address"]),
            ("did", answer["did"]),
            ("database", secret["database"]),
            ("key file", path),
        ]
    )


def _settle(path: Path, email: str, error: BaseException) -> None:
    """Remove the key file of an account that was refused; keep it where the account may be open all the same.

    A daemon that went away, or Ctrl-C, says nothing about that, and nobody else has these keys.
    """
    from node.admin.client import DaemonFailure

    refused = isinstance(error, MailioError) and not error.temporary and not isinstance(error, DaemonFailure)
    if refused:
        path.unlink()
        return
    complain(
        f"it is not known whether the account was opened: its keys are in {path}; "
        f"remove them if `mailio-node account show {email}` finds no account"
    )


def _write_private(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(
            f"{path}: exists already; move it away, or name another file with --keys"
        ) from None
    except OSError as error:
        raise Misconfigured(f"{path}: can't be written: {error.strerror}") from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        # Half a key file would be taken for somebody's keys, and stand in the way of the next attempt.
        path.unlink()
        raise Misconfigured(f"{path}: can't be written: {error.strerror}") from error


@app.command(name="list")
def list_all(context: typer.Context, as_json: Json = False) -> None:
    """List all accounts.

    Example: mailio-node account list --json
    """
    accounts = context_of(context).carry_out("account.list", {})["accounts"]
    if as_json:
        print_json(accounts)
        return
    rows = [
        (
            item["email"],
            item["address"],
            "enabled" if item["enabled"] else "disabled",
            moment(item["created"]),
        )
        for item in accounts
    ]
    print_table(
        ("email", "address", "state", "opened (UTC)"),
        rows,
        "no accounts yet: mailio-node account add someone@your.domain",
    )


@app.command()
def show(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one account and its folders.

    Example: mailio-node account show someone@alpha.example
    """
    account = context_of(context).carry_out("account.show", {"name": name})
    if as_json:
        print_json(account)
        return
    print_facts(
        [
            ("email", account["email"]),
            ("address", account["address"]),
            ("state", "enabled" if account["enabled"] else "disabled"),
            ("opened", f"{moment(account['created'])} UTC"),
            ("database", account["database"]),
            ("seal inbound", "on" if account["sealInbound"] else "off"),
            ("minimum level", account["minimumLevel"]),
            ("used", f"{account['usedBytes']:,} of {account['quotaBytes']:,} bytes"),
        ]
    )
    rows = [(folder, count["total"], count["unread"]) for folder, count in account["folders"].items()]
    print_table(("folder", "messages", "unread"), rows, "no messages yet")


@app.command()
def disable(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
) -> None:
    """Shut an account: no login and no new mail, nothing is lost.

    Example: mailio-node account disable someone@alpha.example --reason "left the company"
    """
    answer = context_of(context).carry_out("account.disable", {"name": name, "reason": reason})
    console.print(f"{answer['address']} is disabled")


@app.command()
def enable(context: typer.Context, name: Name) -> None:
    """Open a disabled account again.

    Example: mailio-node account enable someone@alpha.example
    """
    answer = context_of(context).carry_out("account.enable", {"name": name})
    console.print(f"{answer['address']} is enabled")


@app.command(name="seal-inbound")
def seal_inbound(
    context: typer.Context,
    name: Name,
    state: Annotated[Switch, typer.Argument(help="From the next filed mail on.")],
    as_json: Json = False,
) -> None:
    """Seal mail that comes by SMTP to the owner's key before it is stored, or stop doing so.

    What is filed from now on can be read by the owner's clients only: by nobody with the node's disk, its
    keys or an export, and not by `mailbox list`. The raw message is overwritten after filing. What was stored
    before stays as it is. See docs/encryption.md.

    Example: mailio-node account seal-inbound someone@alpha.example on
    """
    answer = context_of(context).carry_out("account.seal-inbound", {"name": name, "on": state is Switch.ON})
    if as_json:
        print_json(answer)
        return
    what = "sealed to the owner's key" if answer["sealInbound"] else "stored as it comes"
    console.print(f"mail by SMTP to {answer['address']} is {what} from now on")


@app.command(name="minimum-level")
def minimum_level(
    context: typer.Context,
    name: Name,
    level: Annotated[Level, typer.Argument(help="From the next mail on; `none` demands nothing.")],
    as_json: Json = False,
) -> None:
    """Let handshakes of a lower level no longer open an account's inbox; their mail is kept in `handshake`.

    The node's own minimum (`handshakes.minimum_level`) counts too: the higher of the two is demanded.

    Example: mailio-node account minimum-level someone@alpha.example poh
    """
    answer = context_of(context).carry_out("account.minimum-level", {"name": name, "level": level.value})
    if as_json:
        print_json(answer)
        return
    own, node = answer["minimumLevel"], answer["node"]
    console.print(f"{printable(name)}: handshakes count from level {own} on; the node demands {node}")


@app.command()
def password(context: typer.Context, name: Name) -> None:
    """Give an account a new database password, and print it.

    Example: mailio-node account password someone@alpha.example
    """
    fresh = secrets.token_urlsafe(PASSWORD_BYTES)
    context_of(context).carry_out("account.password", {"name": name, "databasePassword": fresh})
    print(fresh)


@app.command()
def erase(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Email or Mailio address of the account.")],
    reason: Annotated[
        str, typer.Option(help="Why. Stays in the log and readable: do not write who it was.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase an account and all that belongs to it. There is no way back.

    The key under which its events and blobs are sealed is destroyed, its blobs are overwritten, its
    documents leave the views. What others got of the same mails stays theirs. The email is not given to
    anybody again. Backups that were made before still hold everything: delete them.

    Example: mailio-node account erase someone@alpha.example --reason "request 17"
    """
    ours = context_of(context)
    if not yes:
        _confirm(name)
    answer = _erased(ours, name, reason)
    if as_json:
        print_json(answer)
        return
    console.print(f"{answer['address']} is erased: {answer['blobs']} blobs, {answer['bytes']:,} bytes")
    for view in answer["behind"]:
        console.print(f"{view} does not answer; it follows when it does")
    _print_unsealed(answer["unsealed"])


def _confirm(name: str) -> None:
    """Have the name typed again. Raises InvalidInput when it is another."""
    typed = typer.prompt(f"Everything of {printable(name)} will be gone for good. Type the name again")
    if typed.strip() != name:
        raise InvalidInput("that is another name: nothing was erased")


def _erased(ours: Context, name: str, reason: str) -> dict[str, Any]:
    from node.admin.client import carry_out

    with errors.rich.status("erasing") if errors.is_terminal else nullcontext() as shown:

        def show(report: dict[str, Any]) -> None:
            if shown is not None:
                shown.update(report["doing"])

        return carry_out(ours.settings, "account.erase", {"name": name, "reason": reason}, show)


def _print_unsealed(unsealed: dict[str, Any]) -> None:
    """Say what could not be erased, because an older program had stored it without a key."""
    if not unsealed["records"]:
        return
    console.print(
        f"{unsealed['records']} records and {unsealed['blobs']} blobs of an older program were not sealed: "
        "they are still readable"
    )
    console.print(f"  positions in the log: {', '.join(map(str, unsealed['positions']))}")
    if unsealed["names"]:
        console.print(f"  blobs: {', '.join(unsealed['names'])}", soft_wrap=True)
