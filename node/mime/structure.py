"""The form of a message, found in one linear pass over its bytes: header fields, parts, depth.

The pass looks only at lines that begin with two hyphens and asks a table whether they are an open
boundary, so neither depth nor the number or likeness of boundaries costs more than their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from node.mime.headers import Block, decode_words, field_text, split_block
from node.mime.limits import Code, Defect, MimeLimits, Violation, printable
from node.mime.parameters import Structured, is_media_type, parse_addresses, parse_structured

BOUNDARY_LENGTH = 2_048
"""Longest boundary, in bytes: RFC 2046 says 70, Postfix reads this many."""

ID_LENGTH = 998
"""Longest message id: one line (RFC 5322 section 2.1.1)."""

_ID = re.compile(r"<[^<>\s]+>")


class Part:
    """A node of the tree of parts: offsets into the raw message, nothing copied.

    `parent` is an index into `Tree.parts`, -1 for the message itself. A container's content is
    its children; of every other part it is `raw[body:end]`.
    """

    __slots__ = ("block", "body", "children", "closed", "depth", "end", "media", "parent")

    def __init__(self, block: Block, media: Structured, parent: int, depth: int) -> None:
        self.block = block
        self.media = media
        self.parent = parent
        self.depth = depth
        self.body = block.body
        self.end = block.body
        self.children = 0
        self.closed = False

    @property
    def is_container(self) -> bool:
        """Whether it was opened: a multipart without any part is none."""
        return self.children > 0


class Tree(msgspec.Struct):
    """All parts in the order of their beginnings; the message itself is the first."""

    parts: list[Part]
    defects: list[Defect]
    depth: int = 0
    has_more_parts: bool = False
    is_deeper: bool = False


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """What the door needs to know before it answers. Lengths are bytes.

    `violation` is the first limit that is passed, None when the form is acceptable; what comes after
    it was not looked at any more. `from_addresses` are bare addresses of all From fields.
    """

    size: int
    header_block: int = 0
    headers: int = 0
    longest_header: int = 0
    received: int = 0
    parts: int = 0
    depth: int = 0
    from_addresses: tuple[str, ...] = ()
    message_id: str = ""
    subject: str = ""
    violation: Violation | None = None
    detail: str = ""


def inspect(raw: bytes, limits: MimeLimits | None = None) -> Structure:
    """Look at the form of a message, in linear time. Never raises."""
    limits = limits or MimeLimits()
    block = split_block(raw)
    keys = [field.key for field in block.fields]
    senders = [field.raw for key, field in zip(keys, block.fields, strict=True) if key == "from"]
    seen = Structure(
        size=len(raw),
        header_block=block.body,
        headers=len(block.fields),
        longest_header=max((len(field.raw) for field in block.fields), default=0),
        received=keys.count("received"),
        from_addresses=tuple(a for sender in senders for _, a in parse_addresses(field_text(sender)) if a),
        message_id=message_id(block),
        subject=decode_words(field_text(block.first("subject"))),
    )
    violation = _header_violation(seen, limits) or _line_violation(raw, block.body, limits)
    if violation:
        return msgspec.structs.replace(seen, violation=violation[0], detail=violation[1])
    tree = scan(raw, limits, block)
    seen = msgspec.structs.replace(seen, parts=len(tree.parts), depth=tree.depth)
    if tree.has_more_parts:
        detail = f"more than {limits.parts} parts"
        return msgspec.structs.replace(seen, violation=Violation.TOO_MANY_PARTS, detail=detail)
    if tree.is_deeper:
        detail = f"nested deeper than {limits.nesting}"
        return msgspec.structs.replace(seen, violation=Violation.NESTED_TOO_DEEP, detail=detail)
    return seen


def message_id(block: Block) -> str:
    """Message-ID with its angle brackets as received, without anything around it; "" when there is none."""
    text = field_text(block.first("message-id")[: 2 * ID_LENGTH])
    found = _ID.search(text)
    return (found[0] if found else text)[:ID_LENGTH]


def _header_violation(seen: Structure, limits: MimeLimits) -> tuple[Violation, str] | None:
    checks = (
        (Violation.HEADER_BLOCK_TOO_LARGE, seen.header_block, limits.header_block, "bytes of header"),
        (Violation.TOO_MANY_HEADERS, seen.headers, limits.headers, "header fields"),
        (Violation.HEADER_TOO_LONG, seen.longest_header, limits.header_length, "bytes in one header field"),
        (Violation.LOOP, seen.received, limits.received, "Received fields"),
    )
    for violation, value, limit, what in checks:
        if value > limit:
            return violation, f"more than {limit} {what}"
    return None


def _line_violation(raw: bytes, start: int, limits: MimeLimits) -> tuple[Violation, str] | None:
    """Jump from line end to line end, as far apart as the limit lets them be."""
    while len(raw) - start > limits.line_length:
        newline = raw.rfind(b"\n", start, start + limits.line_length + 1)
        if newline < 0:
            return Violation.LINE_TOO_LONG, f"a line of more than {limits.line_length} bytes"
        start = newline + 1
    return None


def scan(raw: bytes, limits: MimeLimits, block: Block | None = None) -> Tree:
    """Find all parts. Beyond a limit the rest stays whole in the part where it was passed."""
    return _Scan(raw, limits).run(block or split_block(raw))


class _Scan:
    def __init__(self, raw: bytes, limits: MimeLimits) -> None:
        self._raw = raw
        self._limits = limits
        self._tree = Tree([], [])
        # Parts that are open, outermost first; a boundary leads to the level of its container.
        self._open: list[int] = []
        self._levels: dict[bytes, int] = {}
        self._labels: dict[int, bytes] = {}

    def run(self, block: Block) -> Tree:
        position = self._begin(block)
        for start, following, label in self._boundary_lines(position):
            closing = label not in self._levels
            level = self._levels[label[:-2] if closing else label]
            self._end(level + 1, self._content_end(start))
            container = self._tree.parts[self._open[level]]
            if closing:
                container.closed = True
                del self._levels[self._labels[level]]
            elif len(self._tree.parts) >= self._limits.parts:
                self._stop(container)
                break
            else:
                container.children += 1
                self._next = self._begin(split_block(raw=self._raw, start=following))
        self._end(0, len(self._raw))
        return self._tree

    def _boundary_lines(self, position: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield (start, start of the next line, what follows the hyphens) of lines with an open boundary."""
        raw, self._next = self._raw, position
        while self._levels:
            start = raw.find(b"\n--", max(self._next - 1, 0)) + 1
            if not start:
                return
            newline = raw.find(b"\n", start)
            self._next = len(raw) if newline < 0 else newline + 1
            if self._next - start > BOUNDARY_LENGTH + 100:
                continue
            label = raw[start + 2 : self._next].rstrip(b" \t\r\n")
            if label in self._levels or (label.endswith(b"--") and label[:-2] in self._levels):
                yield start, self._next, label

    def _begin(self, block: Block) -> int:
        """Open a part, remember its boundary if it has one, and return where to look on."""
        tree = self._tree
        depth = len(self._open)
        raw_type = block.first("content-type")
        media = parse_structured(raw_type) if raw_type else Structured("", {})
        part = Part(block, media, self._open[-1] if self._open else -1, depth)
        tree.parts.append(part)
        self._open.append(len(tree.parts) - 1)
        tree.depth = max(tree.depth, depth)
        if media.value.startswith("multipart/"):
            self._begin_container(part, depth)
        elif raw_type and not is_media_type(media.value):
            self._complain(Code.CONTENT_TYPE_INVALID, media.value)
        return block.body

    def _begin_container(self, part: Part, depth: int) -> None:
        boundary = part.media.parameters.get("boundary", "").encode("utf-8", "replace").rstrip()
        if depth >= self._limits.nesting:
            self._tree.is_deeper = True
            self._complain(Code.NESTING_TRUNCATED, f"deeper than {self._limits.nesting}")
        elif not boundary or len(boundary) > BOUNDARY_LENGTH or boundary in self._levels:
            self._complain(Code.BOUNDARY_MISSING, part.media.value)
        else:
            self._levels[boundary] = depth
            self._labels[depth] = boundary

    def _end(self, level: int, end: int) -> None:
        """Close all parts from `level` inwards at offset `end`."""
        while len(self._open) > level:
            part = self._tree.parts[self._open.pop()]
            part.end = max(end, part.body)
            depth = len(self._open)
            if self._levels.get(self._labels.get(depth, b"")) == depth:
                del self._levels[self._labels[depth]]
                self._complain(
                    Code.BOUNDARY_NOT_CLOSED if part.children else Code.BOUNDARY_NOT_FOUND, part.media.value
                )

    def _content_end(self, start: int) -> int:
        """The line end before a boundary line belongs to the boundary (RFC 2046 section 5.1.1)."""
        end = start - 1
        return end - 1 if end > 0 and self._raw[end - 1] == 0x0D else end

    def _stop(self, container: Part) -> None:
        """Leave the rest in the last part: it is opened again, up to the end of the message."""
        self._tree.has_more_parts = True
        self._complain(Code.PARTS_TRUNCATED, f"more than {self._limits.parts}")
        container.closed = True
        last = self._tree.parts[-1]
        if not last.children:
            last.end = len(self._raw)

    def _complain(self, code: Code, detail: str) -> None:
        self._tree.defects.append(Defect(code, printable(detail)))
