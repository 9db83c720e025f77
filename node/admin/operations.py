"""What an operator may ask of a node. Arguments and answers are JSON objects.

An operation is an async generator: every item but the last is a report of progress, the last one is the
result. The command line calls them through `node.admin.client`, wherever the node lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from events.account import DisableAccount, EnableAccount
from events.errors import InvalidInput, NotFound
from node.accounts import Registration
from node.core import Core
from node.crypto.base64_text import from_base64
from node.rebuild import swap_rebuilt
from projections.directory import AccountEntry

Arguments = Mapping[str, Any]
Answer = dict[str, Any]
Operation = Callable[[Core, Arguments], AsyncIterator[Answer]]

OPERATOR = "operator"
"""The actor of whatever an operator does."""


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
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
    store = core.views.stores["userdb"]
    database = entry.database
    yield {
        **_entry(entry),
        "database": database,
        "didDocument": await core.directory.did_document(entry.address),
        "folders": {
            name: {"total": total, "unread": unread}
            for name, (total, unread) in store.folder_counts(database).items()
        },
        "quotaBytes": core.settings.node.quota_bytes,
    }


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


async def account_password(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Set the password of an account's database."""
    entry = await core.accounts.find(_text(arguments, "name"))
    await core.accounts.change_password(entry.address, _text(arguments, "databasePassword"), OPERATOR)
    yield {"address": entry.address}


async def status(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Tell how far everything has come."""
    head = core.log.head
    yield {
        "head": head,
        "backlog": core.dispatcher.backlog,
        "parked": len(await core.parking.list()) + sum(len(s.parked()) for s in core.views.stores.values()),
        "actors": core.actors.active,
        "views": {
            name: {"position": runner.position, "lag": head - runner.position}
            for name, runner in core.views.runners.items()
        },
    }


async def parked_list(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """List what could not be processed: reactions of actors, and events that a view refused."""
    reactions = [
        {
            "id": parked.event_id,
            "what": f"{parked.kind}/{parked.key}",
            "position": parked.position,
            "reason": parked.reason,
            "attempts": parked.attempts,
        }
        for parked in await core.parking.list()
    ]
    events = [
        {"id": f"{name}:{parked.position}", "what": f"view {name}", **msgspec.to_builtins(parked)}
        for name, store in core.views.stores.items()
        for parked in store.parked()
    ]
    yield {"parked": reactions + events}


async def parked_show(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Show one parked item with the event that it is about."""
    wanted = _text(arguments, "id")
    async for listing in parked_list(core, {}):
        for item in listing["parked"]:
            if item["id"] == wanted:
                yield item | {"event": await _event_at(core, item["position"])}
                return
    raise NotFound(f"nothing parked has the id {wanted}")


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
    view, _, position = wanted.partition(":")
    if position:
        await core.views.runner(view).retry(int(position))
    else:
        await core.parking.retry(wanted)
    yield {"id": wanted, "retried": True}


async def parked_drop(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Give a parked item up; the log keeps that, and why."""
    wanted, reason = _text(arguments, "id"), _text(arguments, "reason", "")
    view, _, position = wanted.partition(":")
    if position:
        await core.views.runner(view).drop(int(position))
    else:
        await core.parking.drop(wanted, reason)
    yield {"id": wanted, "dropped": True}


async def view_swap(core: Core, arguments: Arguments) -> AsyncIterator[Answer]:
    """Bring a rebuilt view up to date and put it in the place of the live one."""
    async for answer in swap_rebuilt(core.views, _text(arguments, "view")):
        yield answer


OPERATIONS: Mapping[str, Operation] = {
    "account.add": account_add,
    "account.list": account_list,
    "account.show": account_show,
    "account.disable": account_disable,
    "account.enable": account_enable,
    "account.password": account_password,
    "status": status,
    "parked.list": parked_list,
    "parked.show": parked_show,
    "parked.retry": parked_retry,
    "parked.drop": parked_drop,
    "view.swap": view_swap,
}
