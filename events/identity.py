"""Who is who, computed from text and bytes alone: addresses, DIDs, document ids, e-mail addresses.

Nothing here does I/O or draws random bytes, so every room may use it. Source: wire spec sections 1
(identity), 4.3 (handshake ids), 4.5 (statistics) and 6.3 (user databases).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from functools import lru_cache

import msgspec
import xxhash

from events.errors import InvalidInput

MAX_DID_LENGTH = 512
"""Characters of a DID. A host has at most 253, an address 42; the rest is room for foreign methods."""

MAX_EMAIL_LENGTH = 254
"""Octets of an e-mail address (RFC 5321 section 4.5.3.1.3: a path of 256 less its two brackets)."""

MAX_LOCAL_PART_LENGTH = 64
"""Octets of the part before the at sign (RFC 5321 section 4.5.3.1.1)."""

MAX_DOMAIN_LENGTH = 253
"""Octets of a domain name in text form (RFC 1035 section 2.3.4)."""

DAY_MS = 86_400_000

NAMES_REMEMBERED = 4_096
"""Senders whose names are kept, some 5 MB: each is asked about two or three times a mail, 17 us a time."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DID_TEXT = re.compile(r"[\x21-\x7e]+")
_DID_METHOD = re.compile(r"[a-z0-9]+")
_USER_DATABASE = re.compile(r"userdb-([0-9a-f]{84})")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
# RFC 5321 section 4.1.2 dot-string, with the UTF-8 of RFC 6531. A quoted local part is refused: it
# may hold spaces, at signs and escapes, no mailbox of a Mailio node has one, and `<`, `"` and control
# characters then never reach a header or a document.
_DOT_STRING = re.compile(
    r"[^\s@.\"(),:;<>\[\\\]\x00-\x1f\x7f-\x9f]+(?:\.[^\s@.\"(),:;<>\[\\\]\x00-\x1f\x7f-\x9f]+)*"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# The characters on which IDNA 2003 and 2008 disagree (UTS 46 "deviations", RFC 5894 section 7.2): one
# text would name two hosts, so whoever means such a domain must write its `xn--` form.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
_ANGLE = re.compile(r"<([^<>]*)>\s*$")


def mailio_address(ed25519_public: bytes) -> str:
    """Derive the Mailio address of a 32-byte Ed25519 public key: `0x` and 40 lower-case hex digits.

    Wire spec section 1.1: the hash is over the base64 *text* of the key. Raises InvalidInput.
    """
    if len(ed25519_public) != 32:
        raise InvalidInput("invalid public key", f"{len(ed25519_public)} bytes where 32 are due")
    return "0x" + hashlib.sha256(base64.b64encode(ed25519_public)).hexdigest()[-40:]


def is_address(text: str) -> bool:
    """Whether the text has the form of a Mailio address (either case; ours are always lower)."""
    return _ADDRESS.fullmatch(text) is not None


def is_document_hash(text: str) -> bool:
    """Whether the text has the form of a handshake or mapping id: 64 lower-case hex digits."""
    return _HEX_ID.fullmatch(text) is not None


class Did(msgspec.Struct, frozen=True):
    """A decentralised identifier in its three parts (wire spec section 1.2); `str()` gives its text.

    A fragment-only DID (`#master`) has neither method nor value. A port stays unescaped in the value.
    """

    method: str
    value: str
    fragment: str = ""

    def __str__(self) -> str:
        """Give the text form."""
        tail = f"#{self.fragment}" if self.fragment else ""
        return f"did:{self.method}:{self.value}{tail}" if self.method else tail

    @classmethod
    @lru_cache(NAMES_REMEMBERED)
    def parse(cls, text: str) -> Did:
        """Split a DID. Raises InvalidInput when it is not one, too long, or holds odd characters."""
        if len(text) > MAX_DID_LENGTH or not _DID_TEXT.fullmatch(text):
            raise InvalidInput("invalid DID")
        head, _, fragment = text.partition("#")
        if not head and fragment:
            return cls("", "", fragment)
        scheme, method, value = [*head.split(":", 2), "", ""][:3]
        if scheme != "did" or not value or not _DID_METHOD.fullmatch(method):
            raise InvalidInput("invalid DID")
        return cls(method, value, fragment)

    @property
    def host(self) -> str:
        """The server of a `did:web`, without the `:0x…` tail of a delivery message's `from`; else ""."""
        return self.value.split(":0x", 1)[0].lower() if self.method == "web" else ""

    @property
    def address(self) -> str:
        """The Mailio address it names, lower case, or "".

        `did:mailio:<address>`, `did:web:<host>#<address>` and `did:web:<host>:<address>` have one.
        """
        found = self.value if self.method == "mailio" else self.fragment or self.value.rpartition(":")[2]
        return found.lower() if is_address(found) else ""


def mailio_did(address: str, fragment: str = "") -> Did:
    """Name a user or server in documents and tokens: `did:mailio:<address>`."""
    return Did("mailio", address, fragment)


def web_did(server_domain: str, address: str) -> Did:
    """Name a user between servers: `did:web:<serverDomain>#<address>`."""
    return Did("web", server_domain, address)


def handshake_id(owner_address: str, sender: str) -> str:
    """Compute the id of the handshake in which `owner_address` speaks about `sender`: 64 hex digits.

    Nothing stands between the two texts, and the sender's case is kept (wire spec section 4.3). Bytes of a
    stranger's that are no UTF-8 have an id too, which no client can have written.
    """
    return hashlib.sha256(f"{owner_address}{sender}".encode(errors="surrogatepass")).hexdigest()


def handshake_ids(
    owner_address: str, *, did: str = "", address: str = "", email: str = "", email_hash: str = ""
) -> list[str]:
    """Ids under which a sender's handshake may be kept, in probing order (wire spec section 4.3)."""
    senders = [did, address, email, email.lower(), email_hash]
    return [handshake_id(owner_address, sender) for sender in dict.fromkeys(senders) if sender]


class SenderNames(msgspec.Struct, frozen=True):
    """The texts under which a sender may stand in a handshake book (wire spec section 4.3), best first.

    `exact` are names that only this sender can bear. `against` are names that somebody else may bear too: an
    entry under one can shut the sender out, never let it in. `domain` names everybody at the sender's domain
    (`@` and the domain in ASCII form), `email` is what an email hash is made of; both may be "".
    """

    exact: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    domain: str = ""
    email: str = ""

    @classmethod
    def of_email(cls, sender: str) -> SenderNames:
        """Name a sender by what a mail says, as it was received.

        What is no sound email lets nobody in: a stranger may have written anything there, a DID too.
        """
        # Long ones are not worth keeping: only a stranger who means harm has one.
        return (_known_email if len(sender) <= MAX_EMAIL_LENGTH else _names_of_email)(sender)

    @classmethod
    def of_did(cls, sender: str) -> SenderNames:
        """Name a sender by a DID that its server has signed.

        The bare Mailio address is a name `against`: any server can say that a user of its has it, and only
        the DID says which server that is.
        """
        return (_known_did if len(sender) <= MAX_DID_LENGTH else _names_of_did)(sender)


def _names_of_email(sender: str) -> SenderNames:
    domain = domain_name(email_domain(sender))
    written = (sender, sender.lower())
    try:
        return SenderNames(_distinct(*written, normalise_email(sender)), (), domain, sender.lower())
    except InvalidInput:
        return SenderNames((), _distinct(*written), domain)


def _names_of_did(sender: str) -> SenderNames:
    try:
        did = Did.parse(sender)
    except InvalidInput:
        return SenderNames((), (sender,))
    if not (did.host and did.address):
        return SenderNames((), (sender,))
    canonical = str(web_did(did.host, did.address))
    return SenderNames(_distinct(canonical, sender), (did.address,), domain_name(did.host))


_known_email = lru_cache(NAMES_REMEMBERED)(_names_of_email)
_known_did = lru_cache(NAMES_REMEMBERED)(_names_of_did)


def _distinct(*names: str) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name)


def domain_name(domain: str) -> str:
    """Return the name of everybody at a domain, "" for what is no domain: `@` and its ASCII form.

    No email and no DID can have this form, so that nobody can take the place of a domain. Subdomains are
    other domains.
    """
    try:
        return f"@{normalise_domain(domain)}"
    except InvalidInput:
        return ""


def mapping_id(email_hash: str) -> str:
    """Document id of an e-mail hash in the directory: hex SHA-256 of its decoded 32 bytes.

    Wire spec section 1.8. Raises InvalidInput when the text is not an e-mail hash.
    """
    return hashlib.sha256(_email_hash_bytes(email_hash)).hexdigest()


def is_email_hash(text: str) -> bool:
    """Whether the text has the form of an e-mail hash: base64 of 32 bytes, with padding."""
    try:
        _email_hash_bytes(text)
    except InvalidInput:
        return False
    return True


def _email_hash_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True) if len(text) == 44 else b""
    except ValueError:
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != text:
        raise InvalidInput("invalid email hash")
    return raw


def userdb_name(address: str) -> str:
    """Name of the database that the user's clients replicate (wire spec section 6.3)."""
    return f"userdb-{address.encode().hex()}"


def userdb_owner(database: str) -> str:
    """Mailio address that a user database belongs to. Raises InvalidInput for any other name."""
    found = _USER_DATABASE.fullmatch(database)
    address = bytes.fromhex(found[1]).decode("latin-1") if found else ""
    if not is_address(address) or address != address.lower():
        raise InvalidInput("not a user database")
    return address


def strip_identifier(identifier: str) -> str:
    """Reduce a DID to its fragment and `Name <a@b>` to `a@b`; anything else stays as it is.

    Statistics count pairs of such bare identifiers (wire spec section 4.5). Case is kept.
    """
    if identifier.startswith("did:"):
        _, _, fragment = identifier.partition("#")
        return fragment or identifier
    found = _ANGLE.search(identifier)
    return found[1].strip() if found else identifier.strip()


def sent_key(sender: str, recipient: str) -> str:
    """Key of the counter of messages from sender to recipient: `es:<h>:<h>` (wire spec section 4.5)."""
    return f"es:{_xxh64(strip_identifier(sender))}:{_xxh64(strip_identifier(recipient))}"


def interest_key(sender: str, recipient: str) -> str:
    """Key of the counter of the recipient's interest in the sender: `esint:<h>:<h>`."""
    return f"esint:{_xxh64(strip_identifier(sender))}:{_xxh64(strip_identifier(recipient))}"


def sent_per_day_key(sender: str, at: int) -> str:
    """Key of the counter of a sender's messages on the UTC day of `at` (ms): `eds:<h>:<h(midnight)>`."""
    midnight = at // DAY_MS * (DAY_MS // 1000)
    return f"eds:{_xxh64(strip_identifier(sender))}:{_xxh64(str(midnight))}"


def _xxh64(text: str) -> str:
    return format(xxhash.xxh64_intdigest(text.encode(), seed=0), "x")


def interest_percent(interest: int, received: int) -> int:
    """Share of received messages that met interest, in percent, rounded up; 0 when none was received.

    Single-precision arithmetic on purpose: nodes must agree at the borders (wire spec section 4.5).
    """
    if received <= 0:
        return 0
    return math.ceil(_single(_single(interest / received) * 100))


def _single(value: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def normalise_email(email: str) -> str:
    """Return the address in the one form that the node stores and compares.

    Lower case throughout, the domain in its ASCII (`xn--`) form; no display name, no quoting, no
    address literal. Raises InvalidInput when it is not an e-mail address or breaks a length limit.
    """
    if len(email) > MAX_EMAIL_LENGTH:
        raise InvalidInput("invalid email", "longer than a path may be")
    local, at, domain = email.strip().lower().rpartition("@")
    # Invisible and unassigned characters are left out: two texts that look the same would be two people.
    shown = _DOT_STRING.fullmatch(local) and local.isprintable()
    if not at or not shown or len(_utf8(local)) > MAX_LOCAL_PART_LENGTH:
        raise InvalidInput("invalid email", "local part")
    address = f"{local}@{normalise_domain(domain)}"
    if len(address.encode()) > MAX_EMAIL_LENGTH:
        raise InvalidInput("invalid email", "longer than a path may be")
    return address


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("invalid email", "lone surrogates") from None


@lru_cache(NAMES_REMEMBERED)
def normalise_domain(domain: str) -> str:
    """Return a domain name in lower-case ASCII form, without a trailing dot. Raises InvalidInput."""
    text = domain.lower().removesuffix(".")
    if not text or len(text) > MAX_DOMAIN_LENGTH or _DEVIATIONS.search(text):
        raise InvalidInput("invalid domain")
    try:
        ascii_form = text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise InvalidInput("invalid domain", "IDNA") from None
    if len(ascii_form) > MAX_DOMAIN_LENGTH or not all(map(_LABEL.fullmatch, ascii_form.split("."))):
        raise InvalidInput("invalid domain")
    return ascii_form


def email_local_part(email: str) -> str:
    """Return what stands before the last at sign."""
    return email.rpartition("@")[0]


def email_domain(email: str) -> str:
    """Return what stands after the last at sign; "" when there is none."""
    return email.rpartition("@")[2] if "@" in email else ""
