"""The TXT record by which a domain publishes its server key (MIR-5): text only, no queries.

Wire spec section 2.1. Stricter than the reference server where that costs no honest peer anything:
the version tag must stand first, the key type must be ed25519, a tag may occur once. Where that server
takes whichever record the resolver put first, here every key of every good record counts: a domain that
changes its key has two for a time. The second may also stand in the same record, as `p2=`, which readers
of one key pass over: they take the third part and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from nacl.bindings import crypto_core_ed25519_is_valid_point

from events.errors import Fault, InvalidInput, MailioError
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.keys import KEY_BYTES

SELECTOR: Final = "mailio._mailiokey"
VERSION_TAG: Final = "v=MAILIO1"
KEY_TYPE: Final = "ed25519"

MAX_RECORD: Final = 1_024
"""Characters of a record's joined strings; a proper one has 74."""

MAX_RECORDS: Final = 16
"""TXT records at one name; a proper one has one, two while a key changes."""

MAX_KEYS: Final = 4
"""Keys of one domain: the old, the new and two to spare. Each costs a verification for a bad signature."""

SECOND_KEY: Final = "p2"
"""Tag of the other live key, after the parts that every reader knows (docs/keys.md)."""

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\t]")


class Flaw(StrEnum):
    """What is wrong with a record, in words for whoever published it."""

    TOO_LONG = "it is longer than 1024 characters"
    NOT_TEXT = "it has characters other than printable ASCII"
    VERSION = "it does not begin with v=MAILIO1"
    TRUNCATED = "it ends before k= and p= are there"
    ORDER = "the second part must be k=, the third p="
    KEY_TYPE = "the key type is not ed25519"
    KEY_EMPTY = "the key is empty"
    KEY_ENCODING = "the key is not base64 with padding"
    KEY_LENGTH = "the key has not 32 bytes"
    KEY_POINT = "the key is no point that could have signed anything"
    TAG_SYNTAX = "a part is not tag=value"
    TAG_TWICE = "a tag occurs twice"
    TOO_MANY_KEYS = "there are more than 4 keys"
    TOO_MANY = "there are more than 16 TXT records"


class MalformedRecord(InvalidInput):
    """A domain publishes a Mailio record that can't be used, which is not the same as none.

    Who asked can't mend it, and must not take the domain for one without Mailio: hence 503.
    """

    fault = Fault.RECIPIENT
    smtp = "550 5.4.4"
    http = 503
    mtp = "5.4.3"

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"the Mailio DNS record is malformed: {flaw}")
        self.flaw = flaw


class MailioRecord(msgspec.Struct, frozen=True):
    """What a record says: the 32-byte Ed25519 key, and later members that this version does not judge."""

    public_key: bytes
    others: tuple[tuple[str, str], ...] = ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Both keys, or the one. A second one that is malformed is none: the first is good all the same."""
        second = dict(self.others).get(SECOND_KEY)
        if second is None:
            return (self.public_key,)
        try:
            return tuple(dict.fromkeys((self.public_key, _key(second))))
        except MalformedRecord:
            return (self.public_key,)


class Reading(msgspec.Struct, frozen=True):
    """What the TXT records of a name say together. `seen` has each text and what was thought of it."""

    records: tuple[MailioRecord, ...]
    flaw: Flaw | None
    seen: tuple[tuple[str, str], ...]

    @property
    def record(self) -> MailioRecord | None:
        """The first record, None when there is none to go by."""
        return self.records[0] if self.records else None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All live keys, each once, in the order in which they were given."""
        return tuple(dict.fromkeys(key for record in self.records for key in record.keys))

    def require(self) -> MailioRecord | None:
        """Return the first record, None when none is Mailio's. Raises MalformedRecord."""
        if self.flaw is not None:
            raise MalformedRecord(self.flaw)
        return self.record


def record_name(domain: str) -> str:
    """Owner name of the record."""
    return f"{SELECTOR}.{domain}"


def record_text(public_key: bytes, second: bytes | None = None) -> str:
    """Text of the record for a 32-byte Ed25519 key, and for a second one while keys change."""
    other = f"; {SECOND_KEY}={to_base64(second)}" if second is not None else ""
    return f"{VERSION_TAG}; k={KEY_TYPE}; p={to_base64(public_key)}{other}"


def zone_line(domain: str, public_key: bytes) -> str:
    """Line for a zone file, columns separated by tabs."""
    return f'{record_name(domain)}.\tIN\tTXT\t"{record_text(public_key)}"'


def parse_record(text: str) -> MailioRecord:
    """Read one record, its strings joined. Raises MalformedRecord that names the flaw."""
    if len(text) > MAX_RECORD:
        raise MalformedRecord(Flaw.TOO_LONG)
    if _UNPRINTABLE.search(text):
        raise MalformedRecord(Flaw.NOT_TEXT)
    parts = [part.strip(" \t") for part in text.split(";")]
    if parts[0] != VERSION_TAG:
        raise MalformedRecord(Flaw.VERSION)
    if parts[-1] == "":
        parts.pop()
    if len(parts) < 3:
        raise MalformedRecord(Flaw.TRUNCATED)
    tags = [_tag(part) for part in parts]
    if len({name.lower() for name, _ in tags}) < len(tags):
        raise MalformedRecord(Flaw.TAG_TWICE)
    return _of_tags(tags)


def _tag(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals or not _TAG.fullmatch(name):
        raise MalformedRecord(Flaw.TAG_SYNTAX)
    return name, value


def _of_tags(tags: Sequence[tuple[str, str]]) -> MailioRecord:
    """Order counts: the reference server goes by it (vector dns-4). So does case."""
    (_, (kind_tag, kind), (key_tag, key), *others) = tags
    if (kind_tag, key_tag) != ("k", "p"):
        raise MalformedRecord(Flaw.ORDER)
    if kind != KEY_TYPE:
        raise MalformedRecord(Flaw.KEY_TYPE)
    return MailioRecord(_key(key), tuple(others))


def _key(text: str) -> bytes:
    if not text:
        raise MalformedRecord(Flaw.KEY_EMPTY)
    try:
        key = from_base64(text, limit=MAX_RECORD)
    except MailioError:
        raise MalformedRecord(Flaw.KEY_ENCODING) from None
    if len(key) != KEY_BYTES:
        raise MalformedRecord(Flaw.KEY_LENGTH)
    if not crypto_core_ed25519_is_valid_point(key):
        raise MalformedRecord(Flaw.KEY_POINT)
    return key


def read_records(texts: Iterable[str]) -> Reading:
    """Read the TXT records of a name, each with its strings joined.

    Records without the version tag are somebody else's, as for the reference server. A malformed one
    beside a good one is passed over, and told in `seen`; alone it is a flaw, which is not the same as none.
    """
    texts = tuple(texts)
    if len(texts) > MAX_RECORDS:
        return Reading((), Flaw.TOO_MANY, ())
    said = [_judge(text) for text in texts]
    seen = tuple((text, _remark(one)) for text, one in zip(texts, said, strict=True))
    good = {one.keys: one for one in said if isinstance(one, MailioRecord)}
    reading = Reading(tuple(good.values()), None, seen)
    if len(reading.keys) > MAX_KEYS:
        return Reading((), Flaw.TOO_MANY_KEYS, seen)
    flaw = next((one for one in said if isinstance(one, Flaw)), None)
    return reading if good else Reading((), flaw, seen)


def _judge(text: str) -> MailioRecord | Flaw | None:
    if VERSION_TAG not in text:
        return None
    try:
        return parse_record(text)
    except MalformedRecord as error:
        return error.flaw


def _remark(said: MailioRecord | Flaw | None) -> str:
    if isinstance(said, MailioRecord):
        whole = len(said.keys) > 1 or SECOND_KEY not in dict(said.others)
        return "a Mailio record" if whole else f"a Mailio record; its {SECOND_KEY}= is no other key"
    return "no Mailio record" if said is None else f"malformed: {said}"
