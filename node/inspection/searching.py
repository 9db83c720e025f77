"""Finding records: filters on what every record has, and a text or pattern in what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from events.errors import InvalidInput
from events.log.chain import Row
from events.log.codec import Codec
from events.log.reading import LogReader
from node.inspection.records import Seen, see

Show = Callable[[int, int], None]
"""Told (position reached, last position) as a search goes on."""


_ID_DIGITS: Final = 32
_HEX: Final = frozenset("0123456789abcdef")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which records: those to which all that is set applies.

    `stream` and `actor` are names, or beginnings of names when they end in `*`. `after` and `upto` are
    positions. `correlation` is an event id. `text` is sought in the members as JSON, as a regular
    expression when `pattern`.
    """

    types: tuple[str, ...] = ()
    stream: str = ""
    actor: str = ""
    after: int = 0
    upto: int | None = None
    correlation: str = ""
    text: str = ""
    pattern: bool = False
    ignore_case: bool = False


def search(reader: LogReader, codec: Codec, wanted: Wanted, show: Show) -> Iterator[Seen]:
    """Yield the records that are wanted, and each that can't be decoded where the rest fits.

    Raises InvalidInput for a pattern that is none.
    """
    fits = _text_filter(wanted)
    for row in _candidates(reader, wanted, show):
        if not _named(row.stream, wanted.stream) or (wanted.types and row.topic not in wanted.types):
            continue
        seen = see(row, codec)
        if _has_origin(seen, wanted) and (fits(seen) or (seen.event is None and not seen.newer)):
            yield seen


def _candidates(reader: LogReader, wanted: Wanted, show: Show) -> Iterator[Row]:
    if wanted.stream and not wanted.stream.endswith("*"):
        rows = reader.stream(wanted.stream, upto=wanted.upto)
        yield from (row for row in rows if row.position > wanted.after)
        return
    end = reader.head.position if wanted.upto is None else wanted.upto
    for page in reader.pages(wanted.after, end, wanted.types):
        yield from page
        if page:
            show(page[-1].position, end)


def _named(name: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return name.startswith(wanted[:-1])
    return not wanted or name == wanted


def _has_origin(seen: Seen, wanted: Wanted) -> bool:
    """Whether a record has the actor and the story that are wanted; one without metadata may have."""
    if seen.metadata is None:
        return True
    if wanted.correlation and wanted.correlation not in {seen.metadata.correlation, seen.metadata.id}:
        return False
    return _named(seen.metadata.actor, wanted.actor)


def _text_filter(wanted: Wanted) -> Callable[[Seen], bool]:
    if not wanted.text:
        return lambda seen: True
    flags = re.IGNORECASE if wanted.ignore_case else 0
    try:
        found = re.compile(wanted.text if wanted.pattern else re.escape(wanted.text), flags).search
    except re.error as error:
        raise InvalidInput(f"{wanted.text!r} is no regular expression: {error}") from None
    return lambda seen: found(msgspec.json.encode(seen.members).decode()) is not None


def shown(what: str, reader: LogReader, codec: Codec) -> Iterator[Seen]:
    """Yield the record with a position or an event id, or all of the stream with that name."""
    row = record_named(what, reader)
    for each in [row] if row else reader.stream(what):
        yield see(each, codec)


def newest(
    reader: LogReader, codec: Codec, number: int, pause: Callable[[], None] | None = None
) -> Iterator[Seen]:
    """Yield the newest records; with a `pause`, go on for ever and call it whenever there is no more."""
    position = reader.last(number)
    while True:
        for page in reader.pages(position):
            for row in page:
                yield see(row, codec)
                position = row.position
        if pause is None:
            return
        pause()


def record_named(text: str, reader: LogReader) -> Row | None:
    """Return the record with this position or event id, None when the text is neither."""
    if text.isascii() and text.isdigit() and len(text) < _ID_DIGITS // 2:
        return reader.at(int(text))
    return reader.by_id(text) if len(text) == _ID_DIGITS and not set(text) - _HEX else None


def correlation_of(text: str, reader: LogReader, codec: Codec) -> str:
    """Return the id of the story that a position or an event id belongs to. Raises InvalidInput."""
    row = record_named(text, reader)
    if row is None:
        raise InvalidInput(f"{text}: the log has no event with this id or position")
    metadata = see(row, codec).metadata
    return metadata.correlation if metadata else text
