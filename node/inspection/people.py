"""Whose mailbox is meant, found in the log alone."""

from __future__ import annotations

import msgspec

from events import account
from events.account import EmailClaimed
from events.errors import NotFound
from events.identity import is_address, normalise_email
from events.log.codec import Codec
from events.log.reading import LogReader


class Owner(msgspec.Struct, frozen=True):
    """The owner of a mailbox: Mailio address, and the email by which it was asked for ("" for none)."""

    address: str
    email: str = ""


def owner_of(name: str, reader: LogReader, codec: Codec) -> Owner:
    """Return the owner that an email or a Mailio address names.

    Raises NotFound when nobody has it, InvalidInput when it is neither.
    """
    if is_address(name):
        return Owner(name.lower())
    email = normalise_email(name)
    for row in reader.stream(account.email_stream(email)):
        claimed = codec.decode(row).event
        if isinstance(claimed, EmailClaimed):
            return Owner(claimed.address, email)
    raise NotFound(f"no account here has the email {email}; one that was erased can be named by its address")
