"""Events and verdicts in words, for people. Texts of strangers are in them as they came: escape them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from events.account import (
    AccountDisabled,
    AccountEnabled,
    AccountErased,
    AccountOpened,
    DatabasePasswordChanged,
    InboundSealing,
    PasskeyAdded,
    PasskeyUsed,
    ProfileChanged,
    SmartKeyStored,
    TokenRevoked,
)
from events.event import Erased, Event
from events.handshake import (
    HandshakeAccepted,
    HandshakeForgotten,
    HandshakeRequested,
    HandshakeRevoked,
    MinimumLevelSet,
)
from events.mailbox import (
    Correspondent,
    DocumentWritten,
    FolderCreated,
    FolderRemoved,
    FolderRenamed,
    InterestShown,
    MessageFiled,
)
from events.offer import HandshakeOffered, OfferRedeemed, OfferWithdrawn
from events.original import OriginalReleased
from events.peer import PeerKeyGone, PeerKeySeen
from events.policy import Reason, Standing
from node.inspection.outgoing import phrase_of

REASONS: Final[Mapping[Reason, str]] = {
    Reason.NO_SUCH_MAILBOX: "nobody has that address here",
    Reason.MAILBOX_DISABLED: "the account is disabled",
    Reason.SENDER_REVOKED: "the owner has shut this sender out",
    Reason.MAILBOX_FULL: "the mailbox had no room for it",
    Reason.SPAM_VERDICT: "a filter called it spam",
    Reason.OWN_MESSAGE: "it is the owner's own message",
    Reason.HANDSHAKE_ACCEPTED: "the owner has let this sender in, and the sender is authenticated",
    Reason.HANDSHAKE_ACCEPTED_UNVERIFIED: (
        "the owner has let this sender in; nobody has checked that the sender is who it says"
    ),
    Reason.HANDSHAKE_REQUESTED: "the sender has asked to be let in, and the owner has not answered",
    Reason.HANDSHAKE_NOT_AUTHENTIC: (
        "the owner has let this sender in, but the message failed the check that it is from this sender"
    ),
    Reason.HANDSHAKE_LEVEL_TOO_LOW: (
        "the owner has let this sender in, at a lower level of trust than owner and node demand"
    ),
    Reason.FREQUENCY_EXCEEDED: "the owner has agreed to fewer messages of this sender",
    Reason.CORRESPONDENT: "the owner has written to this sender before",
    Reason.FIRST_CONTACT: "it is the first message of a sender whom the owner's book does not know",
    Reason.OFTEN_READ: "the owner reads this sender's messages often enough",
    Reason.SELDOM_READ: "the owner seldom reads this sender's messages",
}
"""Each reason of the policy as half a sentence."""

_STANDINGS: Final[Mapping[Standing, str]] = {
    Standing.ACCEPTED: "had let {who} in",
    Standing.REVOKED: "had shut {who} out",
    Standing.REQUEST: "had an unanswered request of {who}",
    Standing.UNKNOWN: "did not know {who}",
}


def known(standing: Standing | None, who: str) -> str:
    """Say what the handshake book knew of somebody; None is a record that did not keep it."""
    if standing is None:
        return f"the log does not say what the handshake book knew of {who}"
    return "the handshake book " + _STANDINGS[standing].format(who=who)


def counted(other: Correspondent) -> str:
    """Say what had passed between owner and sender."""
    if not (other.received or other.sent):
        return "nothing had passed between the two before"
    return (
        f"before it, {other.received} messages came from the sender ({len(other.interest)} were read with "
        f"interest), and {other.sent} went to the sender"
    )


def phrase(event: Event, before: Mapping[str, Any] | None = None) -> str:
    """Say what an event did; `before` is what was known of its document (folder, read), None for nothing."""
    match event:
        case MessageFiled():
            return f"message from {event.sender} filed in {event.folder.value}: {REASONS[event.reason]}"
        case DocumentWritten():
            return _written(event, before)
        case InterestShown():
            return f"read with interest; it counts for {event.sender}"
        case FolderCreated():
            return f"folder {event.name} made"
        case FolderRenamed():
            return f"folder renamed to {event.name}"
        case FolderRemoved():
            return "folder removed"
        case HandshakeAccepted() | HandshakeRevoked() | HandshakeRequested() | HandshakeForgotten():
            return _handshake(event)
        case MinimumLevelSet(level=level):
            return f"handshakes open the inbox from level {level.value} on"
        case OfferRedeemed():
            return f"handshake offer used by {event.requester} for message {event.message}"
        case _:
            return phrase_of(event) or _of_account(event)


def _written(event: DocumentWritten, before: Mapping[str, Any] | None) -> str:
    """Say what a device did to a document, as far as the log tells."""
    from_device = f" by {event.device}" if event.device else ""
    if event.deleted:
        return f"deleted{from_device}"
    if before is None:
        return f"{event.kind} written{from_device}" + (f" into {event.folder}" if event.folder else "")
    return (", ".join(_edits(event, before)) or "edited") + from_device


def _edits(event: DocumentWritten, before: Mapping[str, Any]) -> list[str]:
    edits = []
    if event.folder != before.get("folder", ""):
        edits.append(f"moved from {before.get('folder') or 'no folder'} to {event.folder or 'no folder'}")
    if event.read is not None and event.read != before.get("read"):
        edits.append("marked as read" if event.read else "marked as unread")
    return edits


def _handshake(event: HandshakeAccepted | HandshakeRevoked | HandshakeRequested | HandshakeForgotten) -> str:
    match event:
        case HandshakeForgotten():
            return f"entry {event.id} taken out of the handshake book"
        case HandshakeAccepted():
            said = "let in"
        case HandshakeRevoked():
            said = "shut out"
        case _:
            said = "asked to be let in"
    terms = event.terms
    everybody = f"everybody at {terms.origin_domain}" if terms.type == "server" else ""
    return f"sender {everybody or terms.sender_address or terms.sender_email_hash or terms.id} {said}"


def _of_account(event: Event) -> str:
    match event:
        case AccountOpened():
            return f"account of {event.email} opened"
        case AccountDisabled():
            return "account disabled" + (f": {event.reason}" if event.reason else "")
        case PasskeyAdded():
            return f"passkey {event.passkey.id} added"
        case PasskeyUsed():
            return f"login with passkey {event.id}"
        case InboundSealing():
            return (
                f"mail by SMTP is {'sealed to the owner' if event.on else 'stored as it comes'} from now on"
            )
        case OriginalReleased():
            gone = "; nobody needed it any more, and it was erased" if event.erased else ""
            return f"raw message released by {event.owner}{gone}"
        case PeerKeySeen():
            proof = ", proved by DNSSEC" if event.validated else ""
            return f"{event.domain} publishes the key {event.public_key}{proof}"
        case PeerKeyGone():
            return f"{event.domain} publishes the key {event.public_key} no more"
        case Erased():
            return f"{event.type}; what it said was erased"
        case _:
            return _PLAIN.get(type(event), type(event).__name__)


_PLAIN: Final[Mapping[type[Event], str]] = {
    AccountEnabled: "account enabled",
    AccountErased: "account erased, with all that the log said about its owner",
    ProfileChanged: "profile changed",
    SmartKeyStored: "encrypted key stored",
    DatabasePasswordChanged: "database password changed",
    HandshakeOffered: "handshake offer made: a link for one request",
    OfferWithdrawn: "handshake offer withdrawn",
    TokenRevoked: "a token was logged out",
}
"""Events that need no more than their name in other words."""
