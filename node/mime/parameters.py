"""Structured header fields: media types with parameters (RFC 2045, 2231), and address lists (RFC 5322)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from node.mime.charsets import decode_text
from node.mime.headers import clean, decode_words, field_text

PARAMETERS_LENGTH = 16_384
"""Bytes of a structured field that are read; file names in every script fit many times."""

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]++|\\.)*+)"?|([^;]*))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+*'%~-]+/[a-z0-9!#$&^_.+*'%~-]+")
_COMMENT = re.compile(r"\((?:[^()\\]++|\\.)*+\)")
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|<[^<>]*+>?|\\.|[(),;:]|[^"<(),;:\\]++|.', re.DOTALL)
# One address and nothing to think about: as most fields have it, with a name of plain words or without.
_ONE_ADDRESS = re.compile(
    r'(?:([^"<>(),;:\\@]*)<([^\s"<>(),;:\\@]+@[^\s"<>(),;:\\@]+)>|([^\s"<>(),;:\\@]+@[^\s"<>(),;:\\@]+))'
)


class Structured(NamedTuple):
    """A value with parameters, both in lower case but for the parameters' values."""

    value: str
    parameters: dict[str, str]


def parse_structured(raw: bytes) -> Structured:
    """Read a Content-Type or Content-Disposition field. Of a repeated parameter the first counts."""
    text = field_text(raw[:PARAMETERS_LENGTH])
    value = text.partition(";")[0].partition("(")[0]
    found: dict[str, str] = {}
    extended: dict[str, list[tuple[int, bool, str]]] = {}
    for match in _PARAMETER.finditer(text, len(text.partition(";")[0])):
        plain = match[3].strip() if match[2] is None else _ESCAPE.sub(r"\1", match[2])
        name, star, section = match[1].lower().partition("*")
        if not star:
            found.setdefault(name, plain)
        elif (number := section.rstrip("*") or "0").isascii() and number.isdigit() and len(number) < 5:
            is_encoded = section.endswith("*") or not section
            extended.setdefault(name, []).append((int(number), is_encoded, plain))
    # RFC 2231 section 5 leaves it open; all clients prefer the extended form (RFC 6266 section 4.3).
    found.update({name: _join_extended(pieces) for name, pieces in extended.items()})
    return Structured(value.strip().lower(), found)


def _join_extended(pieces: list[tuple[int, bool, str]]) -> str:
    """Join the sections of RFC 2231: only the first names a charset, each may be percent-encoded or not."""
    pieces.sort(key=lambda piece: piece[0])
    charset = ""
    first = pieces[0]
    if first[1] and first[2].count("'") >= 2:
        charset, _, text = first[2].split("'", 2)
        pieces[0] = (first[0], True, text)
    raw = b"".join(
        unquote_to_bytes(text) if is_encoded else text.encode("utf-8") for _, is_encoded, text in pieces
    )
    return decode_text(raw, charset or "utf-8")[0]


def is_media_type(text: str) -> bool:
    """Tell whether `text` is a type, a slash, and a subtype."""
    return _TYPE.fullmatch(text) is not None


def parse_addresses(text: str, limit: int = 10_000) -> list[tuple[str, str]]:
    """Read an address list (unfolded text) as (display name, address) pairs; linear, and never fails.

    Groups are dissolved, comments are names where there is no other, and a display name with an
    unquoted comma stays whole. Encoded words are decoded in names only, after the list is cut: what
    they hold is never syntax.
    """
    if text.isprintable() and (one := _ONE_ADDRESS.fullmatch(text)):
        name, angle, bare = one.groups()
        return [(_name(name.strip()), angle)] if angle else [("", bare)]
    found: list[tuple[str, str]] = []
    item = _Item()
    carried = ""
    depth = 0
    for piece in _TOKENS.findall(text):
        depth += (piece == "(") - (piece == ")" and depth > 0)
        if depth or piece == ")":
            item.comment.append(piece)
        elif piece == ":" and not item.angle:
            item, carried = _Item(), ""
        elif piece in {",", ";"}:
            carried = item.finish(found, carried)
            item = _Item()
        else:
            item.add(piece)
        if len(found) >= limit:
            return found
    carried = item.finish(found, carried)
    if carried and not found:
        found.append(("", carried))
    return found


class _Item:
    def __init__(self) -> None:
        self.words: list[str] = []
        self.comment: list[str] = []
        self.angle = ""

    def add(self, token: str) -> None:
        if token.startswith("<") and len(token) > 1 and not self.angle:
            self.angle = token.strip("<>")
        else:
            self.words.append(token)

    def finish(self, found: list[tuple[str, str]], carried: str) -> str:
        """Add what this item is to `found`, or return it as the beginning of the next one's name."""
        if self.angle:
            words = "".join(map(_unquote, self.words)).strip()
            name = f"{carried}, {words}" if carried and words else carried or words
            found.append((_name(name or self._comment()), _address(self.angle)))
            return ""
        text = "".join(self.words).strip()
        if "@" in text:
            found += self._bare(text)
            return ""
        return ", ".join(filter(None, (carried, _unquote(text))))[:1000]

    def _bare(self, text: str) -> list[tuple[str, str]]:
        """Addresses without angle brackets: one, as the standard wants it, or several with spaces between."""
        whole = [] if '"' in text else [word for word in text.split() if "@" in word.strip("@")]
        if not whole:
            return [(_name(self._comment()), _address(text))]
        rest = " ".join(word for word in text.split() if word not in whole)
        name = (rest if len(whole) == 1 else "") or self._comment()
        return [(_name(name), _address(word)) for word in whole]

    def _comment(self) -> str:
        return "".join(self.comment).strip("() ")


def _unquote(token: str) -> str:
    if not token.startswith('"'):
        return token
    return _ESCAPE.sub(r"\1", token[1:].removesuffix('"'))


def _name(text: str) -> str:
    return clean(decode_words(text))[:1000]


def _address(text: str) -> str:
    """Drop comments, a source route (RFC 5322 section 4.4), and white space of a bare address."""
    text = clean(text) if '"' in text else _COMMENT.sub("", clean(text))
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]
    return text if text.startswith('"') else "".join(text.split())
