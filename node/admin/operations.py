"""What an operator may ask of a node. Arguments and answers are JSON objects.

An operation is an async generator: every item but the last is a report of progress, the last one is the
result. The command line calls them through `node.admin.client`, wherever the node lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from actors.messages import Inspect
from events.account import DisableAccount, EnableAccount, SealInbound
from events.errors import InvalidInput, NotFound
from events.log.log import Origin
from events.mailbox import Mailbox
from node.accounts import Registration
from node.admin import handshakes
from node.admin.deliveries import DELIVERY_OPERATIONS
from node.archive.importing import imported
from node.attestation import file_content
from node.core import Core
from node.crypto.base64_text import from_base64
from node.key_rotation import key_list
from node.levels import minimum_level, set_minimum_level
from node.mime.summary import summarise
from projections.directory import AccountEntry
from projections.runner import Runner

Arguments = Mapping[str, Any]
Answer = dict[str, Any]
Operation = Callable[[Core, Arguments], AsyncIterator[Answer]]

MAX_LISTED = 1_000
"""Messages in one answer of `mailbox.list`."""

PROGRESS_SECONDS = 0.2
"""Pause between two reports of work that takes long."""

OPERATOR = "operator"
"""The actor of whatever an operator does."""


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is missing")
    return value


def _texts(arguments: Arguments, name: str) -> list[str]:
    value = arguments.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInput(f"{name} is missing")
    return value


def _entry(entry: AccountEntry) -> Answer:
    return {
        "address": entry.address,
        "email": entry.email,
        "enabled": entry.enabled,
        "created": entry.created,
        "displayName": entry.display_name,
    }


async def account_add(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Open an account for keys that the caller has made: the private ones never come here."""
    registration = Registration(
        email=_text(arguments, "email"),
        signing_key=from_base64(_text(arguments, "signingKey"), length=32),
        agreement_key=from_base64(_text(arguments, "agreementKey"), length=32),
        database_password=_text(arguments, "databasePassword"),
        display_name=_text(arguments, "displayName", ""),
    )
    opened = await core.accounts.open(registration, OPERATOR)
    yield {
        "address": opened.address,
        "email": opened.email,
        "did": f"did:mailio:{opened.address}",
        "didDocument": msgspec.json.decode(opened.did_document),
    }


async def account_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List all accounts, sorted by address."""
    yield {"accounts": [_entry(entry) async for entry in core.directory.all()]}


async def account_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show one account and its mailbox."""
    entry = await core.accounts.find(_text(arguments, "name"))
    counts = await core.views.stores["userdb"].folder_counts(entry.database)
    yield {
        **_entry(entry),
        "database": entry.database,
        "didDocument": await core.directory.did_document(entry.address),
        "folders": {name: {"total": c.total, "unread": c.unread} for name, c in counts.items()},
        "usedBytes": await _used(core, entry.address),
        "quotaBytes": core.settings.node.quota_bytes,
        "sealInbound": (await core.accounts.state(entry.address)).seal_inbound,
        "minimumLevel": await minimum_level(core.actors, entry.address),
    }


async def _used(core: Core, address: str) -> int:
    state = await core.actors.ask("mailbox", address, Inspect())
    assert isinstance(state, Mailbox)
    return state.used


async def account_disable(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Shut an account."""
    entry = await core.accounts.find(_text(arguments, "name"))
    await core.accounts.execute(entry.address, DisableAccount(_text(arguments, "reason", "")), OPERATOR)
    yield {"address": entry.address, "enabled": False}


async def account_enable(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Open an account again."""
    entry = await core.accounts.find(_text(arguments, "name"))
    await core.accounts.execute(entry.address, EnableAccount(), OPERATOR)
    yield {"address": entry.address, "enabled": True}


async def account_seal_inbound(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Have mail by SMTP sealed to an account's key before it is stored, or not; counts when it answers."""
    entry = await core.accounts.find(_text(arguments, "name"))
    on = arguments.get("on")
    if not isinstance(on, bool):
        raise InvalidInput("on is true or false")
    await core.accounts.execute(entry.address, SealInbound(on), OPERATOR)
    yield {"address": entry.address, "sealInbound": on}


async def account_minimum_level(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Let no handshake below a level open an account's inbox; counts when it answers."""
    entry = await core.accounts.find(_text(arguments, "name"))
    origin = Origin(actor=OPERATOR)
    level = await set_minimum_level(core.actors, entry.address, _text(arguments, "level"), origin)
    yield {"address": entry.address, "minimumLevel": level, "node": core.settings.handshakes.minimum_level}


async def account_erase(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Erase an account for good; reports what is being done, then what was."""
    address = await core.erasure.address_of(_text(arguments, "name"))
    leftovers = await core.erasure.leftovers(address)
    erasing = asyncio.ensure_future(core.erasure.erase(address, _text(arguments, "reason", ""), OPERATOR))
    while not erasing.done():
        yield {"doing": core.erasure.doing}
        await asyncio.wait({erasing}, timeout=PROGRESS_SECONDS)
    yield msgspec.to_builtins(erasing.result()) | {"unsealed": msgspec.to_builtins(leftovers)}


async def account_password(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Set the password of an account's database."""
    entry = await core.accounts.find(_text(arguments, "name"))
    await core.accounts.change_password(entry.address, _text(arguments, "databasePassword"), OPERATOR)
    yield {"address": entry.address}


async def account_import(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Bring an account from another node's archive in."""
    file = Path(_text(arguments, "file"))
    async for told in imported(core, file, _text(arguments, "email", ""), _text(arguments, "node", "")):
        yield told


async def mailbox_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List the newest messages of a mailbox; never what they say."""
    entry = await core.accounts.find(_text(arguments, "name"))
    limit = arguments.get("limit", 20)
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LISTED:
        raise InvalidInput(f"limit is a number from 1 to {MAX_LISTED}")
    store = core.views.stores["userdb"]
    newest = await store.documents_since(entry.database, limit=MAX_LISTED, descending=True)
    messages = (summary for summary in map(summarise, newest) if summary is not None)
    yield {"messages": list(islice(messages, limit))}


async def status(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Tell how far everything has come."""
    head = core.log.head
    positions = {name: runner.position for name, runner in core.views.runners.items()}
    for name, store in core.views.stores.items():
        # A runner of a node that was started for this question has hardly begun: its store knows better.
        positions[name] = max(positions[name], await store.checkpoint())
    parked = [await store.parked() for store in core.views.everywhere.values()]
    yield {
        "head": head,
        "backlog": core.dispatcher.backlog,
        "parked": len(await core.parking.list()) + sum(map(len, parked)),
        "actors": core.actors.active,
        "views": {
            name: {
                "position": positions[name],
                "lag": max(0, head - positions[name]),
                "waitingFor": runner.status.waiting_for,
            }
            for name, runner in core.views.runners.items()
        },
    }


async def _parked(core: Core) -> list[Answer]:
    reactions = [
        {
            "id": parked.id,
            "what": f"{parked.kind}/{parked.key}",
            "position": parked.position,
            "reason": parked.reason,
        }
        for parked in await core.parking.list()
    ]
    events = [
        {"id": f"{name}:{position}", "what": f"view {name}", "position": position, "reason": reason}
        for name, store in core.views.everywhere.items()
        for position, reason in (await store.parked()).items()
    ]
    return reactions + events


async def parked_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List what could not be processed: reactions of actors, and events that a view refused."""
    yield {"parked": await _parked(core)}


async def parked_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show one parked item with the event that it is about."""
    wanted = _text(arguments, "id")
    item = next((item for item in await _parked(core) if item["id"] == wanted), None)
    if item is None:
        raise NotFound(f"nothing parked has the id {wanted}")
    yield item | {"event": await _event_at(core, item["position"])}


async def _event_at(core: Core, position: int) -> Answer:
    (record,) = await core.log.read(position - 1, 1)
    return {
        "type": type(record.event).__name__,
        "stream": record.stream,
        "metadata": msgspec.to_builtins(record.metadata),
        "event": msgspec.to_builtins(record.event),
    }


async def parked_retry(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Try a parked item again; it stays parked when it fails again."""
    wanted = _text(arguments, "id")
    runner, position = _parked_in_view(core, wanted)
    if runner:
        await runner.retry(position)
    else:
        await core.parking.retry(wanted)
    yield {"id": wanted, "retried": True}


def _parked_in_view(core: Core, wanted: str) -> tuple[Runner | None, int]:
    """Split `view:position`; no runner for any other id, that of a parked reaction."""
    view, _, position = wanted.rpartition(":")
    runner = core.views.runners.get(view)
    return (runner, int(position)) if runner and position.isdecimal() else (None, 0)


async def parked_drop(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Give a parked item up; the log keeps that, and why."""
    wanted, reason = _text(arguments, "id"), _text(arguments, "reason", "")
    runner, position = _parked_in_view(core, wanted)
    if runner:
        await runner.drop(position)
    else:
        await core.parking.drop(wanted, reason)
    yield {"id": wanted, "dropped": True}


async def view_swap(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Bring rebuilt views up to date and put each in the place of the live one."""
    for name in _texts(arguments, "views"):
        yield {"view": name, "position": await core.views.swap(name)}


async def log_checkpoint(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Sign the log as it is now; the answer is the checkpoint as it is kept elsewhere."""
    yield file_content(await core.attestor.sign())


async def keys_rotate(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Take the next step of a change of keys."""
    await core.rotation.rotate(force=arguments.get("force") is True)
    yield key_list(core.keys, core.settings.keys)


async def keys_retire(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Retire a key that does not sign, or say that a retired one was stolen."""
    await core.rotation.retire(
        _text(arguments, "address", ""),
        force=arguments.get("force") is True,
        stolen=arguments.get("stolen") is True,
    )
    published = {"next": "publish what `mailio-node dns` prints: the retired key is not in it"}
    yield key_list(core.keys, core.settings.keys) | published


OPERATIONS: Mapping[str, Operation] = {
    "account.add": account_add,
    "account.list": account_list,
    "account.show": account_show,
    "account.disable": account_disable,
    "account.enable": account_enable,
    "account.seal-inbound": account_seal_inbound,
    "account.minimum-level": account_minimum_level,
    "account.erase": account_erase,
    "account.password": account_password,
    "account.import": account_import,
    "mailbox.list": mailbox_list,
    "handshake.list": handshakes.handshake_list,
    "handshake.show": handshakes.handshake_show,
    "handshake.offer": handshakes.handshake_offer,
    "handshake.withdraw": handshakes.handshake_withdraw,
    "handshake.default": handshakes.handshake_default,
    "status": status,
    "parked.list": parked_list,
    "parked.show": parked_show,
    "parked.retry": parked_retry,
    "parked.drop": parked_drop,
    "view.swap": view_swap,
    **DELIVERY_OPERATIONS,
    "log.checkpoint": log_checkpoint,
    "keys.rotate": keys_rotate,
    "keys.retire": keys_retire,
}
