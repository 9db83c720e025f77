"""From the parts of a message to what is read, what is shown inline, and what is a file."""

from __future__ import annotations

import msgspec

from node.mime import html as markup
from node.mime.content import (
    content_id,
    decode_transfer,
    disposition,
    is_denied,
    media_type,
    safe_filename,
    text_of,
    wanted_name,
)
from node.mime.limits import Code, Defect, printable
from node.mime.mail import InlinePart
from node.mime.structure import Part, Tree

TEXT_BYTES = 3 << 20
"""Text, and HTML, of one message, in bytes: wire spec section 5.6. A larger one is also an attachment."""

INLINE_PART_BYTES = 128 << 10
"""A larger inline part is an attachment: the document goes to every device of the user."""

INLINE_BYTES = 512 << 10
"""All inline parts of one message."""

INLINE_PARTS = 100
"""Number of inline parts: wire spec section 5.6."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is stored as a blob."""

    media: str
    filename: str
    content: bytes
    disposition: str
    content_id: str
    is_denied: bool


class _Element(msgspec.Struct):
    """One piece of what is read, in one form or in both. Parts of one multipart/alternative are one."""

    plain: list[str] = []
    html: list[str] = []


class Bodies:
    """What the leaves of a tree give. No text is lost: each is read, or is a file."""

    def __init__(self, raw: bytes, tree: Tree) -> None:
        self.defects: list[Defect] = []
        self.inline: list[InlinePart] = []
        self.files: list[File] = []
        self._raw = raw
        self._tree = tree
        self._room = {"plain": TEXT_BYTES, "html": TEXT_BYTES}
        self._inline_room = INLINE_BYTES
        self._alternatives = _alternatives(tree)
        elements: dict[int, _Element] = {}
        for number, part in enumerate(tree.parts):
            if not part.is_container:
                self._leaf(number, part, elements)
        self.html = _html(list(elements.values()))
        self.text = "\n".join(filter(None, map(_text, elements.values())))

    def _leaf(self, number: int, part: Part, elements: dict[int, _Element]) -> None:
        parent = self._tree.parts[part.parent] if part.parent >= 0 else None
        in_digest = parent is not None and parent.media.value == "multipart/digest"
        media = media_type(part, "message/rfc822" if in_digest else "text/plain")
        shown = disposition(part)
        name = wanted_name(part, shown)
        content = decode_transfer(self._raw, part, self.defects)
        if not content and parent is None:
            return
        is_body = media in {"text/plain", "text/html"} or (parent is None and media.startswith("text/"))
        if is_body and shown.value != "attachment" and not (name and parent is not None):
            key = self._alternatives[number]
            element = elements.setdefault(number if key < 0 else key, _Element())
            self._read(part, media, content, element)
        elif not self._show_inline(part, media, shown.value, content):
            self._keep(part, media, shown.value, name, content)

    def _read(self, part: Part, media: str, content: bytes, element: _Element) -> None:
        form = "html" if media == "text/html" else "plain"
        room = self._room[form]
        if len(content) > room:
            self.defects.append(Defect(Code.TEXT_TRUNCATED, f"{media}, {len(content)} bytes"))
            self._keep(part, media, "attachment", "", content)
            content = content[:room]
        self._room[form] -= len(content)
        text = text_of(content, part, self.defects)
        if form == "plain":
            element.plain.append(text)
        elif markup.is_too_complex(text):
            self.defects.append(Defect(Code.HTML_UNSAFE, f"{len(content)} bytes"))
            self._keep(part, media, "attachment", "", content)
            element.plain.append(markup.rough_text(text))
        else:
            element.html.append(markup.sanitise(text))

    def _show_inline(self, part: Part, media: str, shown: str, content: bytes) -> bool:
        """Give a small part with a Content-ID to the HTML that may refer to it."""
        reference = content_id(part)
        is_meant = bool(reference) and shown != "attachment" and media.startswith("image/")
        fits = len(content) <= min(INLINE_PART_BYTES, self._inline_room) and len(self.inline) < INLINE_PARTS
        if not (is_meant and fits):
            return False
        self._inline_room -= len(content)
        self.inline.append(
            InlinePart(content_type=media, content=content, content_id=reference, content_disposition=shown)
        )
        return True

    def _keep(self, part: Part, media: str, shown: str, name: str, content: bytes) -> None:
        filename = safe_filename(name, media, len(self.files) + 1)
        if name and filename != name:
            self.defects.append(Defect(Code.FILENAME_CHANGED, printable(name)))
        denied = is_denied(filename)
        if denied:
            self.defects.append(Defect(Code.EXTENSION_DENIED, printable(filename)))
        self.files.append(
            File(
                media=media,
                filename=filename,
                content=content,
                disposition=shown or "attachment",
                content_id=content_id(part),
                is_denied=denied,
            )
        )


def _alternatives(tree: Tree) -> list[int]:
    """For each part, the outermost multipart/alternative around it, -1 without one."""
    found: list[int] = []
    for number, part in enumerate(tree.parts):
        key = found[part.parent] if part.parent >= 0 else -1
        if key < 0 and part.is_container and part.media.value == "multipart/alternative":
            key = number
        found.append(key)
    return found


def _text(element: _Element) -> str:
    """Prefer what the sender wrote as text; else read the HTML."""
    plain = "\n".join(element.plain)
    return plain if plain.strip() else "\n".join(map(markup.to_text, element.html))


def _html(elements: list[_Element]) -> str:
    """All elements as HTML, those without any as preformatted text; nothing when no element has HTML."""
    if not any("".join(element.html).strip() for element in elements):
        return ""
    return "\n".join(
        "\n".join(element.html) or markup.from_text("\n".join(element.plain))
        for element in elements
        if element.html or "".join(element.plain).strip()
    )
