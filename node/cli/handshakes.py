"""`mailio-node handshake …`: what a client does with its owner's keys, for trying things out.

These commands are a client: they sign with the keys of an account's key file and write the document through
the sync door, as an app on a phone would.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from events.errors import Forbidden, InvalidInput, MailioError, Misconfigured
from node.cli.context import Context, context_of
from node.cli.output import console

app = typer.Typer(help="Accept or revoke a sender, signed with an account's keys.", no_args_is_help=True)

Owner = Annotated[str, typer.Argument(help="Email of the account; its key file must be here.")]
Sender = Annotated[str, typer.Argument(help="Email of the sender.")]
KeyFile = Annotated[Path | None, typer.Option("--keys", help="The account's key file.", show_default=False)]

ANSWER_SECONDS = 30
"""How long the node may take to answer."""


class _Keys(msgspec.Struct, frozen=True, rename="camel"):
    """What `account add` wrote."""

    address: str
    signing_seed: str
    agreement_seed: str
    database_password: str
    database: str


class DoorAnswered(MailioError):
    """The sync door said no."""


@app.command()
def accept(context: typer.Context, owner: Owner, sender: Sender, keys: KeyFile = None) -> None:
    """Let a sender in: from now on their mail goes to the inbox.

    Example: mailio-node handshake accept someone@alpha.example friend@beta.example
    """
    _write(context_of(context), owner, sender, "accepted", keys)


@app.command()
def revoke(context: typer.Context, owner: Owner, sender: Sender, keys: KeyFile = None) -> None:
    """Shut a sender out: from now on they are refused while they try.

    Example: mailio-node handshake revoke someone@alpha.example pest@beta.example
    """
    _write(context_of(context), owner, sender, "revoked", keys)


def _write(ours: Context, owner: str, sender: str, status: str, file: Path | None) -> None:
    keys = _read_keys(file or ours.settings.node.data / "accounts" / f"{owner}.json")
    document = _signed(keys, sender.lower(), status, ours.settings.node.server_domain)
    path = f"/{keys.database}/{document['_id']}"
    known = _request(ours, keys, "GET", path, missing_is_fine=True)
    if known:
        document["_rev"] = known["_rev"]
    _request(ours, keys, "PUT", path, document)
    console.print(f"{owner}: {sender} is {status}")


def _read_keys(path: Path) -> _Keys:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Keys)
    except FileNotFoundError:
        raise Misconfigured(f"{path}: no such key file; name it with --keys") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Misconfigured(f"{path}: not a key file of `mailio-node account add`: {error}") from error


def _signed(keys: _Keys, sender: str, status: str, domain: str) -> dict[str, Any]:
    from events.identity import handshake_id, web_did
    from node.crypto.handshakes import handshake_document, sign_handshake
    from node.crypto.keys import UserKeys

    user = UserKeys(base64.b64decode(keys.signing_seed), base64.b64decode(keys.agreement_seed))
    identifier = handshake_id(keys.address, sender)
    now = time.time_ns() // 1_000_000
    content = {
        "handshakeId": identifier,
        "originServer": {"domain": domain},
        "status": status,
        "level": "none",
        "type": "user",
        "created": now,
    }
    signed = sign_handshake(content, user)
    return handshake_document(identifier, signed, str(web_did(domain, keys.address)), now)


def _request(
    ours: Context, keys: _Keys, method: str, path: str, body: Any = None, *, missing_is_fine: bool = False
) -> Any:
    pair = f"{keys.address}:{keys.database_password}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(pair).decode()}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    url = f"http://{ours.settings.http.listen}{path}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and missing_is_fine:
            return None
        raise _refusal(error) from None
    except OSError as error:
        raise Misconfigured(f"no node answers at {url}: {error}; start it with `mailio-node run`") from None


def _refusal(error: urllib.error.HTTPError) -> MailioError:
    try:
        told = json.load(error)
        text = str(told.get("reason") or told.get("message") or told)
    except ValueError:
        text = error.reason
    kinds = {400: InvalidInput, 403: Forbidden}
    return kinds.get(error.code, DoorAnswered)(f"the node answered {error.code}: {text}")
