"""The terms on which an owner let somebody in, and what the node demands of them (wire spec section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from events.policy import Standing, standing_of_all


class Level(StrEnum):
    """How the owner made sure who the sender is; later ones are worth more."""

    NONE = "none"
    RECAPTCHA = "recaptchaV3"
    PROOF_OF_HUMANITY = "poh"
    PERSONAL = "personal"

    @property
    def rank(self) -> int:
        """Place in the order of levels, 0 for none."""
        return _RANKS[self]


_RANKS: Final[Mapping[str, int]] = {level: rank for rank, level in enumerate(Level)}
"""Asked several times for each message: walking an enumeration is slow."""


def _worth(level: str) -> int:
    """Return the rank of a level as a handshake names it; one that nobody knows is worth nothing."""
    return _RANKS.get(level, 0)


class SignupPurpose(IntEnum):
    """What a signup handshake is for: `signupSubType`.

    The wire spec does not map numbers to names (section 12, 5). This is the order of its names, with which
    the comments of the reference server's sample configuration agree.
    """

    TRANSACTIONAL = 1
    PRODUCT = 2
    SECURITY = 3
    PROMOTION = 4
    NEWSLETTER = 5
    REQUEST = 6
    OTHER = 7


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What a handshake book says of one sender, and on which terms.

    `handshake` is the id of the entry that decided, "" where none did; `whole_domain` tells that it speaks of
    everybody at the sender's domain. `frequency_minutes` is 0 where the owner set no limit. `minimum` is the
    level below which the owner lets no entry open the inbox.
    """

    standing: Standing = Standing.UNKNOWN
    handshake: str = ""
    whole_domain: bool = False
    level: str = Level.NONE
    type: str = ""
    subtype: int = 0
    frequency_minutes: int = 0
    minimum: Level = Level.NONE


class SignupMinutes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Minutes between two mails under a signup handshake that names no frequency itself; 0: no limit."""

    transactional: int = 0
    """Receipts, confirmations."""
    product: int = 0
    """News of a product in use."""
    security: int = 0
    """Warnings, codes."""
    promotion: int = 0
    """Advertising."""
    newsletter: int = 0
    """Newsletters."""
    request: int = 0
    """Answers to a request."""
    other: int = 0
    """Whatever else, and numbers that this program does not know."""

    def __post_init__(self) -> None:
        """Raise ValueError for a time that can't be."""
        if any(getattr(self, name) < 0 for name in self.__struct_fields__):
            raise ValueError("minutes can't be negative")

    def of(self, subtype: int) -> int:
        """Return the minutes for a `signupSubType`."""
        known = subtype in set(SignupPurpose)
        purpose = SignupPurpose(subtype) if known else SignupPurpose.OTHER
        minutes: int = getattr(self, purpose.name.lower())
        return minutes


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """What a node demands of every handshake before it counts."""

    minimum_level: Level = Level.NONE
    signup_minutes: SignupMinutes = SignupMinutes()

    def met_by(self, consent: Consent) -> bool:
        """Whether the level is high enough for node and owner; one that nobody knows is worth nothing."""
        return _worth(consent.level) >= max(self.minimum_level.rank, consent.minimum.rank)

    def minutes(self, consent: Consent) -> int:
        """Minutes that have to lie between two mails under this consent; 0 for no limit."""
        if consent.standing is not Standing.ACCEPTED:
            return 0
        if consent.frequency_minutes or consent.type != "signup":
            return consent.frequency_minutes
        return self.signup_minutes.of(consent.subtype)


NO_DEMANDS: Final = Demands()


def consent_of_all(consents: Iterable[Consent]) -> Consent:
    """Combine what the book says of several authors of one message, to the owner's safety.

    The standing is that of `standing_of_all`; of several accepted authors the strictest terms count: the
    lowest level, and the longest time between two mails.
    """
    found = list(consents)
    if len(found) == 1:
        return found[0]
    standing = standing_of_all(one.standing for one in found)
    deciding = [one for one in found if one.standing is standing]
    if not deciding:
        return Consent()
    strictest = max(deciding, key=lambda one: one.frequency_minutes)
    lowest = min(deciding, key=lambda one: _worth(one.level))
    return msgspec.structs.replace(strictest, level=lowest.level)
