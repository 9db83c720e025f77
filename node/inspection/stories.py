"""The story of a message: what happened to it, step by step, for each of its recipients."""

from __future__ import annotations

from typing import Any

import msgspec

Facts = dict[str, Any]
"""Values behind a step, as JSON."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, in words, with the facts behind it.

    `what` is a stable name: session, accepted, verdict, filed, parked, retried, dropped, waiting, erased,
    sent, delivery, written, changed, interest, shown, synced. `at` is in milliseconds, `position` that of the
    event; both are None for what is so now and is no event. Texts of strangers are as they came: escape them.
    """

    what: str
    text: str
    at: int | None = None
    position: int | None = None
    actor: str = ""
    facts: Facts = {}


class Branch(msgspec.Struct, kw_only=True):
    """What happened in one mailbox. `document` is the id in the user's database, "" while there is none."""

    mailbox: str
    email: str = ""
    document: str = ""
    steps: list[Step] = []


class Story(msgspec.Struct, kw_only=True):
    """One message: what all recipients share, and a branch for each. `mail` is "" for what a device wrote."""

    mail: str = ""
    message_id: str = ""
    steps: list[Step] = []
    branches: list[Branch] = []
