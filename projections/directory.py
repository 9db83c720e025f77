"""Who has an account here: emails, addresses, DID documents, profiles, credentials (wire spec section 6).

The doors ask it on every recipient and every login, so each question is one or two lookups by id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from events.account import (
    STREAM,
    AccountDisabled,
    AccountEnabled,
    AccountErased,
    AccountMoved,
    AccountOpened,
    DatabasePasswordChanged,
    EmailClaimed,
    ProfileChanged,
)
from events.errors import CorruptRecord, InvalidInput
from events.event import Recorded
from events.identity import email_domain, mailio_did, mapping_id, normalise_email, userdb_name
from projections.revision import computed
from projections.view_store import Change, Document, Documents, Effect, Forget

ACCOUNTS = "accounts"
EMAILS = "emails"
MAPPING = "mailio_mapping"
DIDS = "did"
PROFILES = "user_profile"
CREDENTIALS = "vcs"

Content = TypeVar("Content")

Json = dict[str, Any]
"""A JSON object."""

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Json).decode


class AccountEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the doors need of an account: the document of `accounts`.

    Keys are base64 of 32 bytes, `email_hash` is that of wire spec section 1.8, `created` is in milliseconds.
    `credentials` are ids in `vcs`. `password_hash` is for the sync door and must never leave the node.
    """

    address: str
    email: str
    email_hash: str
    enabled: bool
    signing_key: str
    agreement_key: str
    password_hash: str
    created: int
    display_name: str = ""
    credentials: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        """Name of the database that the user's clients replicate."""
        return userdb_name(self.address)


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an account shows of itself (wire spec section 6.2). Times are in milliseconds."""

    enabled: bool
    domain: str
    created: int = 0
    modified: int = 0
    display_name: str = ""
    phone: str = ""
    picture: str = ""
    job_title: str = ""
    company: str = ""
    description: str = ""
    what_to_share: str = ""
    social: dict[str, str] = {}


class _Email(msgspec.Struct, frozen=True):
    address: str


class _DidDocument(msgspec.Struct, frozen=True):
    did: Json


class _Credential(msgspec.Struct, frozen=True):
    vc: Json


class Lookup(Documents, Protocol):
    """What the reader needs of the view's store."""

    def documents(self, database: str) -> AsyncIterator[Document]:
        """All documents of a database in id order."""


class Directory:
    """View `directory`: one small database for each question that is asked by another key.

    `accounts` (address), `emails` (normalised email), `mailio_mapping` (mapping id of the email hash), `did`
    (`did:mailio:<address>`), `user_profile` (address), `vcs` (credential id).
    """

    name = "directory"
    schema = 2
    types = frozenset(
        event.__name__
        for event in (
            AccountOpened,
            AccountDisabled,
            AccountEnabled,
            AccountMoved,
            ProfileChanged,
            DatabasePasswordChanged,
            EmailClaimed,
            AccountErased,
        )
    )

    async def apply(self, record: Recorded, documents: Documents) -> Sequence[Effect]:
        """Return the document changes, one for each database concerned.

        Raises CorruptRecord for an account that nobody has opened.
        """
        desk = _Desk(record, documents)
        match record.event:
            case EmailClaimed() as claimed:
                return [await desk.put(EMAILS, claimed.email, {"address": claimed.address})]
            case AccountOpened() as opened:
                return [await desk.put(*entry) for entry in _opened(opened)]
            case AccountMoved() as moved:
                return await desk.move(moved)
            case AccountDisabled() | AccountEnabled() as event:
                return await desk.switch(enabled=isinstance(event, AccountEnabled))
            case DatabasePasswordChanged() as changed:
                return [await desk.edit_account(password_hash=changed.password_hash)]
            case ProfileChanged() as changed:
                return await desk.show(changed)
            case AccountErased(address=address):
                return await desk.forget(address)
            case _:
                return []


class _Desk:
    """Writes revisions of documents on behalf of one event."""

    def __init__(self, record: Recorded, documents: Documents) -> None:
        self._record = record
        self._documents = documents
        self._address = record.stream.removeprefix(STREAM)

    async def put(self, database: str, id: str, content: Any) -> Change:  # noqa: A002 - CouchDB's word
        """Let the document say `content`, as the successor of what it says now."""
        stored = await self._documents.get(database, id)
        parent = stored.winner.rev if stored else None
        body = _encode(content)
        rev = computed(parent, deleted=False, body=body)
        revisions = (rev, parent) if parent else (rev,)
        return Change(database=database, id=id, seq=self._record.position, revisions=revisions, body=body)

    async def switch(self, *, enabled: bool) -> list[Change]:
        """Open or shut the account."""
        profile = msgspec.structs.replace(
            await self._profile(), enabled=enabled, modified=self._record.metadata.at
        )
        return [
            await self.edit_account(enabled=enabled),
            await self.put(PROFILES, self._address, profile),
        ]

    async def move(self, moved: AccountMoved) -> list[Effect]:
        """Let the account have another email, and the documents that go with it.

        What its former home had issued goes: an erasure would not know of it any more.
        """
        credential = _parsed(moved.credential)
        entry = _decoded(await self._documents.get(ACCOUNTS, self._address), AccountEntry)
        own = {(MAPPING, mapping_id(moved.email_hash)), (CREDENTIALS, str(credential["id"]))}
        former = [place for place in _issued(entry) if place not in own] if entry else []
        known = await self._profile()
        profile = msgspec.structs.replace(known, domain=email_domain(moved.email), modified=moved.moved_at)
        mapping = {"encryptedEmail": moved.email_hash, "address": moved.address}
        return [
            *(Forget(database=name, id=ident) for name, ident in former),
            await self.edit_account(
                email=moved.email, email_hash=moved.email_hash, credentials=(str(credential["id"]),)
            ),
            await self.put(MAPPING, mapping_id(moved.email_hash), mapping),
            await self.put(PROFILES, self._address, profile),
            await self.put(DIDS, str(mailio_did(moved.address)), {"did": _parsed(moved.did_document)}),
            await self.put(CREDENTIALS, str(credential["id"]), {"vc": credential}),
        ]

    async def show(self, changed: ProfileChanged) -> list[Change]:
        """Replace what the owner may say of themselves."""
        known = await self._profile()
        profile = _shown(known, changed)
        return [
            await self.edit_account(display_name=changed.profile.get("displayName", "")),
            await self.put(PROFILES, self._address, profile),
        ]

    async def forget(self, address: str) -> list[Forget]:
        """Forget whatever is known of an account."""
        entry = _decoded(await self._documents.get(ACCOUNTS, address), AccountEntry)
        return [Forget(database=name, id=ident) for name, ident in _traces(entry)] if entry else []

    async def edit_account(self, **members: Any) -> Change:
        """Change members of the account's document."""
        entry = _decoded(await self._documents.get(ACCOUNTS, self._address), AccountEntry)
        if entry is None:
            raise CorruptRecord("no such account", self._record.stream)
        return await self.put(ACCOUNTS, self._address, msgspec.structs.replace(entry, **members))

    async def _profile(self) -> Profile:
        profile = _decoded(await self._documents.get(PROFILES, self._address), Profile)
        if profile is None:
            raise CorruptRecord("no such account", self._record.stream)
        return profile


def _traces(entry: AccountEntry) -> list[tuple[str, str]]:
    """Return (database, id) of every document that there is because of an account."""
    return [
        (ACCOUNTS, entry.address),
        (EMAILS, entry.email),
        (DIDS, str(mailio_did(entry.address))),
        (PROFILES, entry.address),
        *_issued(entry),
    ]


def _issued(entry: AccountEntry) -> list[tuple[str, str]]:
    """Return (database, id) of the documents whose ids follow from an account's home."""
    return [
        (MAPPING, mapping_id(entry.email_hash)),
        *((CREDENTIALS, credential) for credential in entry.credentials),
    ]


def _opened(opened: AccountOpened) -> list[tuple[str, str, Any]]:
    """Return (database, id, content) of everything that opening an account writes."""
    address = opened.address
    entries: list[tuple[str, str, Any]] = [
        (
            MAPPING,
            mapping_id(opened.email_hash),
            {"encryptedEmail": opened.email_hash, "address": address},
        ),
        (PROFILES, address, _first_profile(opened)),
    ]
    if opened.did_document:
        entries.append((DIDS, str(mailio_did(address)), {"did": _parsed(opened.did_document)}))
    credentials: tuple[str, ...] = ()
    if opened.credential:
        credential = _parsed(opened.credential)
        credentials = (str(credential["id"]),)
        entries.append((CREDENTIALS, credentials[0], {"vc": credential}))
    entries.append((ACCOUNTS, address, _first_entry(opened, credentials)))
    return entries


def _first_entry(opened: AccountOpened, credentials: tuple[str, ...]) -> AccountEntry:
    return AccountEntry(
        address=opened.address,
        email=opened.email,
        email_hash=opened.email_hash,
        enabled=True,
        signing_key=opened.signing_key,
        agreement_key=opened.agreement_key,
        password_hash=opened.password_hash,
        created=opened.opened_at,
        display_name=opened.display_name,
        credentials=credentials,
    )


def _first_profile(opened: AccountOpened) -> Profile:
    return Profile(
        enabled=True,
        domain=email_domain(opened.email),
        created=opened.opened_at,
        modified=opened.opened_at,
        display_name=opened.display_name,
    )


def _shown(known: Profile, changed: ProfileChanged) -> Profile:
    """Return the profile as its owner wants it; what the node says in it stays."""
    own = {"enabled": known.enabled, "domain": known.domain, "created": known.created}
    said = changed.profile | {"modified": changed.changed_at, "social": changed.social}
    return msgspec.convert(said | own, type=Profile)


def _parsed(text: str) -> Json:
    try:
        return _decode(text)
    except msgspec.MsgspecError as error:
        raise CorruptRecord("an account's document is not a JSON object", str(error)) from error


class AccountDirectory:
    """Answers who is who. Every answer is None (or empty) when there is no such account.

    A disabled account is found too: look at `enabled`.
    """

    def __init__(self, documents: Lookup) -> None:
        self._documents = documents

    async def all(self) -> AsyncIterator[AccountEntry]:
        """Give every account, sorted by address."""
        async for document in self._documents.documents(ACCOUNTS):
            if (entry := _decoded(document, AccountEntry)) is not None:
                yield entry

    async def by_address(self, address: str) -> AccountEntry | None:
        """Find an account by its Mailio address, in either case."""
        return await self._get(ACCOUNTS, address.lower(), AccountEntry)

    async def by_email(self, email: str) -> AccountEntry | None:
        """Find an account by an email as somebody wrote it; what is no email belongs to nobody."""
        try:
            found = await self._get(EMAILS, normalise_email(email), _Email)
        except (InvalidInput, UnicodeEncodeError):
            return None
        return await self.by_address(found.address) if found else None

    async def by_email_hash(self, email_hash: str) -> AccountEntry | None:
        """Find an account by the email hash of wire spec section 1.8."""
        try:
            found = await self._get(MAPPING, mapping_id(email_hash), _Email)
        except InvalidInput:
            return None
        return await self.by_address(found.address) if found else None

    async def did_document(self, address: str) -> Json | None:
        """Return a user's DID document."""
        found = await self._get(DIDS, str(mailio_did(address.lower())), _DidDocument)
        return found.did if found else None

    async def profile(self, address: str) -> Profile | None:
        """Return what an account shows of itself."""
        return await self._get(PROFILES, address.lower(), Profile)

    async def credential(self, credential: str) -> Json | None:
        """Return a credential by its id."""
        found = await self._get(CREDENTIALS, credential, _Credential)
        return found.vc if found else None

    async def credentials(self, address: str) -> list[Json]:
        """Return the credentials that were issued to an account."""
        entry = await self.by_address(address)
        found = [await self.credential(ident) for ident in entry.credentials] if entry else []
        return [credential for credential in found if credential is not None]

    async def _get(self, database: str, id: str, kind: type[Content]) -> Content | None:  # noqa: A002
        try:
            # Strangers' bytes come as lone surrogates: no name of ours has any.
            id.encode()
        except UnicodeEncodeError:
            return None
        return _decoded(await self._documents.get(database, id), kind)


def _decoded(stored: Document | None, kind: type[Content]) -> Content | None:
    if stored is None or stored.winner.deleted:
        return None
    try:
        return msgspec.json.decode(stored.winner.body, type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptRecord("a document of the directory makes no sense", f"{stored.id}: {error}") from error
