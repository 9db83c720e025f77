"""Header blocks: cut into fields in one pass, unfolded, and read as text (RFC 5322, 2047, 6532).

Only LF ends a line, with or without CR before it; a bare CR, like every other control character, is a
space in what this module returns. So nothing decoded can ever begin a line of its own, or be shown in another
order than it was sent.
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from node.mime.charsets import decode_text
from node.mime.limits import Code, Defect, printable

# A name, and all up to the end of the last line that is folded into the value. It never goes back: one pass.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:((?:[^\n]*+\n(?=[ \t]))*+[^\n]*+\n?)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# Embeddings, overrides and isolates of the bidirectional algorithm: with them `gpj.exe` reads `exe.jpg`.
# The marks U+200E, U+200F and U+061C, which honest text needs, turn nothing but themselves and stay.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]+")
# RFC 5322 section 2.2.3: unfolding takes the line end away and leaves the white space after it.
_FOLD = re.compile("\r?\n(?=[ \t])")
# Both alternatives are bounded by the next question mark: one pass, however many false starts there are.
_WORD = re.compile(r"=\?([A-Za-z0-9_.:()+-]{1,60})(?:\*[A-Za-z0-9-]*)?\?([bBqQ])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t\r\n]++(?==\?)")


class Field(NamedTuple):
    """A header field as received: name, and value with its folds, without the last line end."""

    name: str
    raw: bytes

    @property
    def key(self) -> str:
        """The name in lower case."""
        return self.name.lower()


class Block(NamedTuple):
    """A header block: its fields in order, and where the body begins.

    `broken` is the line that ended it early.
    """

    fields: list[Field]
    body: int
    broken: bytes = b""

    def first(self, key: str) -> bytes:
        """Return the raw value of the first field with this lower-case name, or nothing."""
        for name, raw in self.fields:
            if name.lower() == key:
                return raw
        return b""


def split_block(raw: bytes, start: int = 0) -> Block:
    """Cut the header block at `start`. Linear, and never fails."""
    fields: list[Field] = []
    position = start
    if raw.startswith(b"From ", start) and not _FIELD.match(raw, start):
        position = _line_end(raw, start)
    while match := _FIELD.match(raw, position):
        name, value = match.groups()
        # A field name never begins like a boundary line, whose boundary may hold a colon.
        if name.startswith(b"--"):
            break
        fields.append(Field(name.decode("ascii"), value.removesuffix(b"\n").removesuffix(b"\r")))
        position = match.end()
    if position >= len(raw):
        return Block(fields, len(raw))
    following = _line_end(raw, position)
    if raw[position:following] in {b"\r\n", b"\n"}:
        return Block(fields, following)
    return Block(fields, position, raw[position : min(following, position + 80)])


def _line_end(raw: bytes, start: int) -> int:
    """Return where the next line begins, or the end of all."""
    return raw.find(b"\n", start) + 1 or len(raw)


def field_text(raw: bytes, defects: list[Defect] | None = None) -> str:
    """Unfold a field's value and read it as text; encoded words stay as they are."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
        if defects is not None:
            defects.append(Defect(Code.HEADER_8BIT, printable(text.strip())))
    return clean(_FOLD.sub("", text) if "\n" in text else text)


def clean(text: str) -> str:
    """Replace each run of control characters, line ends included, by a space; leave out directional ones."""
    if text.isprintable():  # None of them is, so most fields cost no look for each kind.
        return text.strip()
    if not text.isascii():
        text = _DIRECTION.sub("", text)
    return _CONTROL.sub(" ", text).strip()


def decode_words(text: str, defects: list[Defect] | None = None) -> str:
    """Decode RFC 2047 encoded words; what can't be decoded stays as it is.

    The result has no control characters, whatever the words hold.
    """
    if "=?" not in text:
        return text
    joined = _BETWEEN_WORDS.sub(r"\1", text)
    pieces: list[str] = []
    run: list[tuple[str, bytes]] = []
    last = 0
    for match in _WORD.finditer(joined):
        between = joined[last : match.start()]
        if between:
            pieces += (_decode_run(run), between)
            run = []
        last = match.end()
        word = _word_bytes(match[2], match[3])
        if word is None:
            pieces += (_decode_run(run), match[0])
            run = []
            _complain(defects, match[0])
        else:
            run.append((match[1].partition("*")[0].lower(), word))
    pieces += (_decode_run(run), joined[last:])
    return clean("".join(pieces))


def _decode_run(run: list[tuple[str, bytes]]) -> str:
    """Decode adjacent words; bytes of one charset are joined first, for a word may end within a character."""
    merged: list[tuple[str, list[bytes]]] = []
    for charset, word in run:
        if merged and merged[-1][0] == charset:
            merged[-1][1].append(word)
        else:
            merged.append((charset, [word]))
    return "".join(decode_text(b"".join(words), charset)[0] for charset, words in merged)


def _word_bytes(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return binascii.a2b_qp(raw.replace(b"_", b" "), header=False)
    raw = raw.rstrip(b"= ")
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return None


def _complain(defects: list[Defect] | None, word: str) -> None:
    if defects is not None:
        defects.append(Defect(Code.ENCODED_WORD, printable(word)))
