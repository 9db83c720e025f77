"""An account: who somebody is on this node, how they prove it, and what they show of themselves.

Private keys never reach the node; it keeps public keys, hashes and what the user's client encrypted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from events.errors import Conflict, Forbidden, InvalidInput, NotFound
from events.event import Event

STREAM = "account-"
EMAIL_STREAM = "email-"

MAX_PASSKEYS = 20
"""Passkeys of one account: a few devices of a few years."""

PROFILE_MEMBERS = frozenset(
    ("displayName", "phone", "picture", "jobTitle", "company", "description", "whatToShare")
)
"""Text members of a profile that its owner may set (wire spec section 6.2); `social` is apart."""

MAX_PROFILE_TEXT = 2_000
"""Characters in one member of a profile."""


def stream(key: str) -> str:
    """Name of the stream of one account."""
    return STREAM + key


def email_stream(email: str) -> str:
    """Name of the stream that reserves an email (normalised): its first event wins the name."""
    return EMAIL_STREAM + hashlib.sha256(email.encode()).hexdigest()


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """A WebAuthn credential: what is needed to check its next signature."""

    id: str
    public_key: str
    sign_count: int
    transports: tuple[str, ...] = ()
    aaguid: str = ""
    backed_up: bool = False


class SmartKey(msgspec.Struct, frozen=True, kw_only=True):
    """The client's encrypted secret and the node's share of its password (wire spec section 1.13)."""

    encrypted: str
    password_share: str
    pre_rotated_key: str = ""


class EmailClaimed(Event, frozen=True, kw_only=True):
    """An email belongs to an account from now on."""

    email: str
    address: str


class AccountOpened(Event, frozen=True, kw_only=True):
    """Somebody registered, or an operator added them.

    Keys are base64 of 32 bytes. `email_hash` is that of wire spec section 1.8. `did_document` and
    `credential` are the JSON texts that were issued. `password_hash` is for the sync door.
    """

    address: str
    email: str
    email_hash: str
    signing_key: str
    agreement_key: str
    did_document: str
    credential: str
    password_hash: str
    opened_at: int
    display_name: str = ""


class AccountImported(Event, frozen=True, kw_only=True):
    """The account came from another node with its history: `events` records in this log tell it.

    They are marked with this event's id. `node` and `domain` name the node that signed the archive at
    `exported_at`, `archive` is the SHA-256 of its manifest, `email` what the account was called there. Times
    are in milliseconds.
    """

    address: str
    node: str
    domain: str
    email: str
    archive: str
    exported_at: int
    imported_at: int
    events: int


class AccountMoved(Event, frozen=True, kw_only=True):
    """From now on the account lives on this node, under this email, with what this node has issued for it."""

    address: str
    email: str
    email_hash: str
    did_document: str
    credential: str
    moved_at: int


class AccountDisabled(Event, frozen=True, kw_only=True):
    """An operator shut the account: no login, no new mail, nothing lost."""

    reason: str = ""


class AccountEnabled(Event, frozen=True, kw_only=True):
    """An operator opened the account again."""


class AccountErased(Event, frozen=True, kw_only=True):
    """The account and all that belonged to it are gone for good.

    The one event about a person that is never sealed: it is read when the key is no more. `reason` is the
    operator's, and as readable: it must not say who it was.
    """

    address: str
    reason: str = ""


class ProfileChanged(Event, frozen=True, kw_only=True):
    """The owner changed what they show of themselves."""

    profile: dict[str, str]
    social: dict[str, str] = {}
    changed_at: int = 0


class PasskeyAdded(Event, frozen=True, kw_only=True):
    """A device can log in from now on."""

    passkey: Passkey


class PasskeyUsed(Event, frozen=True, kw_only=True):
    """A device logged in; its counter moved."""

    id: str
    sign_count: int


class SmartKeyStored(Event, frozen=True, kw_only=True):
    """The client left its encrypted secret with the node."""

    smart_key: SmartKey


class DatabasePasswordChanged(Event, frozen=True, kw_only=True):
    """The password of the sync door changed."""

    password_hash: str


class InboundSealing(Event, frozen=True, kw_only=True):
    """From now on mail that comes by SMTP is sealed to the owner's X25519 key before it is stored, or not."""

    on: bool


class TokenRevoked(Event, frozen=True, kw_only=True):
    """A client token was logged out; it would have been valid until `expires` (seconds)."""

    token: str
    expires: int


class OpenAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Open an account with everything that was issued for it."""

    opened: AccountOpened
    passkey: Passkey | None = None
    smart_key: SmartKey | None = None


class DisableAccount(msgspec.Struct, frozen=True):
    """Shut the account."""

    reason: str = ""


class EnableAccount(msgspec.Struct, frozen=True):
    """Open it again."""


class EraseAccount(msgspec.Struct, frozen=True):
    """Erase the account; what was done about it already is not done again."""

    reason: str = ""


class ChangeProfile(msgspec.Struct, frozen=True):
    """Set profile members; empty texts remove them. `at` is in milliseconds."""

    profile: dict[str, str]
    social: dict[str, str]
    at: int


class AddPasskey(msgspec.Struct, frozen=True):
    """Let a device log in."""

    passkey: Passkey


class UsePasskey(msgspec.Struct, frozen=True):
    """Record a login by passkey and its counter (WebAuthn level 3, section 6.1.1)."""

    id: str
    sign_count: int


class ChangeDatabasePassword(msgspec.Struct, frozen=True):
    """Set the password of the sync door."""

    password_hash: str


class SealInbound(msgspec.Struct, frozen=True):
    """Have mail that comes by SMTP sealed to the owner's key, or not."""

    on: bool


class RevokeToken(msgspec.Struct, frozen=True):
    """Log a token out. `now` and `expires` are in seconds."""

    token: str
    expires: int
    now: int


Command = (
    OpenAccount
    | DisableAccount
    | EnableAccount
    | EraseAccount
    | ChangeProfile
    | AddPasskey
    | UsePasskey
    | ChangeDatabasePassword
    | SealInbound
    | RevokeToken
)


class Account(msgspec.Struct):
    """State of one account."""

    address: str
    opened: AccountOpened | None = None
    enabled: bool = False
    erased: bool = False
    password_hash: str = ""
    passkeys: dict[str, Passkey] = {}
    smart_key: SmartKey | None = None
    revoked: dict[str, int] = {}
    profile: dict[str, str] = {}
    social: dict[str, str] = {}
    changed_at: int = 0
    seal_inbound: bool = False


def initial(key: str) -> Account:
    """Return an account that nobody has opened."""
    return Account(address=key)


def decide(state: Account, command: Command) -> Sequence[Event]:
    """Say what happened because of a command.

    Raises Conflict, NotFound, Forbidden, InvalidInput.
    """
    if isinstance(command, OpenAccount):
        return _open(state, command)
    if isinstance(command, EraseAccount) and state.erased:
        return []
    if state.opened is None:
        raise NotFound("no such account", state.address)
    match command:
        case DisableAccount() | EnableAccount() | EraseAccount():
            return _rule(state, command)
        case ChangeProfile():
            return [_change_profile(command)]
        case AddPasskey():
            return [_add_passkey(state, command)]
        case UsePasskey():
            return [_use_passkey(state, command)]
        case ChangeDatabasePassword() | SealInbound():
            return _set(state, command)
        case RevokeToken():
            return _revoke(state, command)


def _open(state: Account, command: OpenAccount) -> Sequence[Event]:
    if state.opened is not None or state.erased:
        raise Conflict("user already exists", "erased" if state.erased else state.address)
    events: list[Event] = [command.opened]
    if command.passkey:
        events.append(PasskeyAdded(passkey=command.passkey))
    if command.smart_key:
        events.append(SmartKeyStored(smart_key=command.smart_key))
    return events


def _rule(state: Account, command: DisableAccount | EnableAccount | EraseAccount) -> Sequence[Event]:
    """Decide on what only an operator may ask for."""
    match command:
        case DisableAccount():
            return [AccountDisabled(reason=command.reason)] if state.enabled else []
        case EnableAccount():
            return [] if state.enabled else [AccountEnabled()]
        case EraseAccount():
            return [AccountErased(address=state.address, reason=command.reason)]


def _change_profile(command: ChangeProfile) -> Event:
    unknown = command.profile.keys() - PROFILE_MEMBERS
    if unknown:
        raise InvalidInput(f"not a member of a profile: {min(unknown)}")
    texts = (*command.profile.values(), *command.social.values(), *command.social)
    if any(len(text) > MAX_PROFILE_TEXT for text in texts):
        raise InvalidInput(f"a profile text has {MAX_PROFILE_TEXT} characters at most")
    profile = {key: text for key, text in command.profile.items() if text}
    social = {key: text for key, text in command.social.items() if text}
    return ProfileChanged(profile=profile, social=social, changed_at=command.at)


def _add_passkey(state: Account, command: AddPasskey) -> Event:
    if command.passkey.id in state.passkeys:
        raise Conflict("this passkey is known already")
    if len(state.passkeys) >= MAX_PASSKEYS:
        raise Conflict(f"an account has {MAX_PASSKEYS} passkeys at most")
    return PasskeyAdded(passkey=command.passkey)


def _use_passkey(state: Account, command: UsePasskey) -> Event:
    known = state.passkeys.get(command.id)
    if known is None:
        raise NotFound("no such passkey")
    if (command.sign_count or known.sign_count) and command.sign_count <= known.sign_count:
        raise Forbidden("this passkey may have been copied", f"counter {command.sign_count}")
    return PasskeyUsed(id=command.id, sign_count=command.sign_count)


def _set(state: Account, command: ChangeDatabasePassword | SealInbound) -> Sequence[Event]:
    """Decide on a setting."""
    match command:
        case ChangeDatabasePassword():
            return [DatabasePasswordChanged(password_hash=command.password_hash)]
        case SealInbound():
            return [InboundSealing(on=command.on)] if command.on != state.seal_inbound else []


def _revoke(state: Account, command: RevokeToken) -> Sequence[Event]:
    if command.token in state.revoked or command.expires <= command.now:
        return []
    return [TokenRevoked(token=command.token, expires=command.expires)]


def evolve(state: Account, event: Event) -> Account:
    """Fold one event into the account; the state that was passed in is used up."""
    match event:
        case AccountOpened() | AccountMoved():
            _settle(state, event)
        case AccountDisabled() | AccountEnabled():
            state.enabled = isinstance(event, AccountEnabled)
        case AccountErased():
            return Account(address=state.address, erased=True)
        case ProfileChanged():
            state.profile, state.social = dict(event.profile), dict(event.social)
            state.changed_at = event.changed_at
        case PasskeyAdded():
            state.passkeys[event.passkey.id] = event.passkey
        case PasskeyUsed():
            known = state.passkeys[event.id]
            state.passkeys[event.id] = msgspec.structs.replace(known, sign_count=event.sign_count)
        case SmartKeyStored():
            state.smart_key = event.smart_key
        case DatabasePasswordChanged() | InboundSealing():
            _follow(state, event)
        case TokenRevoked():
            state.revoked[event.token] = event.expires
        case _:
            pass
    return state


def _follow(state: Account, event: DatabasePasswordChanged | InboundSealing) -> None:
    """Take over a setting."""
    if isinstance(event, InboundSealing):
        state.seal_inbound = event.on
    else:
        state.password_hash = event.password_hash


def _settle(state: Account, event: AccountOpened | AccountMoved) -> None:
    """Begin an account, or give one that came from another node what it is called here."""
    if isinstance(event, AccountOpened):
        state.opened = event
        state.enabled = True
        state.password_hash = event.password_hash
        state.profile = {"displayName": event.display_name} if event.display_name else {}
    elif state.opened is not None:
        state.opened = msgspec.structs.replace(
            state.opened,
            email=event.email,
            email_hash=event.email_hash,
            did_document=event.did_document,
            credential=event.credential,
        )
