"""Commands that look back: a state at some time, what changed between two, and the story of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import InvalidInput
from node.cli.context import context_of
from node.cli.output import Json, print_json, progress

if TYPE_CHECKING:
    from node.inspection.stories import Story

PARKED = "parked"

Whose = Annotated[str, typer.Argument(help="Email or Mailio address of the account.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(state)
    app.command()(diff)
    app.command()(why)


def state(
    context: typer.Context,
    whose: Annotated[
        str, typer.Argument(help="Email or Mailio address of the account; `parked`: what was parked.")
    ],
    at: Annotated[str, typer.Option(help="Position or time.")] = "now",
    only: Annotated[
        list[str] | None, typer.Option(help="account, handshake or mailbox; may be given several times.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the state of somebody's account, handshake book and mailbox as it was at some place of the log.

    A place is a position; a time in ISO 8601, in UTC unless it names a zone; `now`; or how long ago, as in
    -90s, -30m, -2h, -7d. A time means all that was recorded up to then.

    Example: mailio-node state someone@alpha.example --at 2026-11-28T10:00 --only handshake
    """
    from events.log.clock import SystemClock
    from node.cli.past import print_state
    from node.inspection.opening import opened
    from node.inspection.people import Owner, owner_of
    from node.inspection.places import place_at, position_of
    from node.inspection.states import PARTS, Past, parked_state, state_of

    parts = tuple(only or PARTS)
    if unknown := set(parts) - set(PARTS):
        raise InvalidInput(f"--only {min(unknown)}: there are {', '.join(PARTS)}")
    with opened(context_of(context).settings.node.data) as (reader, codec):
        past = Past(reader, codec, position_of(at, reader, SystemClock().now))
        owner = Owner("") if whose == PARKED else owner_of(whose, reader, codec)
        told = {PARKED: parked_state(past)} if whose == PARKED else state_of(owner, past, parts)
        place = place_at(reader, past.position)
    if as_json:
        print_json({"address": owner.address, **place, **told})
        return
    print_state(whose, place, told)


def diff(
    context: typer.Context,
    whose: Whose,
    begin: Annotated[str, typer.Option("--from", help="Position or time to compare with.")],
    end: Annotated[str, typer.Option("--to", help="Position or time to look at.")] = "now",
    as_json: Json = False,
) -> None:
    """Show what changed for somebody between two places of the log, and which event did it.

    A place is a position; a time in ISO 8601, in UTC unless it names a zone; `now`; or how long ago, as in
    -90s, -30m, -2h, -7d. A time means all that was recorded up to then.

    Example: mailio-node diff someone@alpha.example --from -2h
    """
    import msgspec

    from events.log.clock import SystemClock
    from node.cli.past import print_difference
    from node.inspection.differences import difference
    from node.inspection.opening import opened
    from node.inspection.people import owner_of
    from node.inspection.places import position_of
    from node.inspection.states import Past

    now = SystemClock().now
    with opened(context_of(context).settings.node.data) as (reader, codec):
        first, last = position_of(begin, reader, now), position_of(end, reader, now)
        if first > last:
            raise InvalidInput(f"--from is position {first}, --to is {last}: turn them round")
        owner = owner_of(whose, reader, codec)
        found = difference(owner, Past(reader, codec, first), Past(reader, codec, last))
    if as_json:
        print_json({"from": first, "to": last, **msgspec.to_builtins(found)})
        return
    print_difference(f"{whose} from position {first} to {last}", found)


def why(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help="Message-ID, mail id (of the 250 reply), or document id.")],
    mailbox: Annotated[str, typer.Option(help="Only this mailbox (email or address); quicker, too.")] = "",
    as_json: Json = False,
) -> None:
    """Tell the whole story of a message: session, verdicts, filing, view, sync, what devices did to it.

    A mail id is found at once, the others by reading the log, or only the mailbox's part of it with
    --mailbox. A message that was refused is not in the log: the command says where to look.

    Example: mailio-node why "<20261128.1@beta.example>" --mailbox someone@alpha.example
    """
    import asyncio

    import msgspec

    from node.cli.past import print_story
    from node.inspection.opening import opened
    from node.inspection.visibility import user_view
    from node.inspection.why import Archive, explain

    data = context_of(context).settings.node.data

    async def explained() -> list[Story]:
        with opened(data) as (reader, codec), progress("searching") as show:
            async with user_view(data) as view:
                return await explain(Archive(reader, codec, view), message, mailbox, show)

    stories = asyncio.run(explained())
    if as_json:
        print_json(msgspec.to_builtins(stories))
        return
    for number, story in enumerate(stories):
        print_story(story, separated=number > 0)
