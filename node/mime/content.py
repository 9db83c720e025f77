"""What a part holds: its bytes out of their transfer encoding, its text, the name it wants to be saved as."""

from __future__ import annotations

import binascii
import re
import unicodedata

from node.mime.charsets import decode_text
from node.mime.headers import clean, decode_words, field_text
from node.mime.limits import Code, Defect, printable
from node.mime.parameters import Structured, is_media_type, parse_structured
from node.mime.structure import Part

FILENAME_BYTES = 200
"""Length of a file name in UTF-8: file systems take 255, and clients add " (1)"."""

DENIED_EXTENSIONS = frozenset(
    {"ade", "adp", "apk", "appx", "appxbundle", "bat", "cab", "chm", "cmd", "com", "cpl", "dll", "dmg", "ex"}
    | {
        "ex_",
        "exe",
        "hta",
        "ins",
        "isp",
        "iso",
        "jar",
        "js",
        "jse",
        "lib",
        "lnk",
        "mde",
        "msc",
        "msi",
        "msix",
    }
    | {"msixbundle", "msp", "mst", "nsh", "pif", "ps1", "scr", "sct", "shb", "sys", "vb", "vbe", "vbs", "vxd"}
    | {"wsc", "wsf", "wsh"}
)
"""File extensions that wire spec section 5.6 denies, in lower case."""

_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
_LINE_SPACE = b" \t\r\n"
# A name that is shown reversed hides its extension: text direction controls are no part of a name.
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u200b]")
_EXTENSIONS = {
    "text/plain": "txt",
    "text/html": "html",
    "text/calendar": "ics",
    "text/csv": "csv",
    "text/rfc822-headers": "txt",
    "message/rfc822": "eml",
    "message/global": "eml",
    "message/delivery-status": "txt",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "application/pdf": "pdf",
    "application/pgp-signature": "asc",
    "application/pkcs7-signature": "p7s",
}


def media_type(part: Part, default: str = "text/plain") -> str:
    """Return the part's media type, the default of its container where it has none that is one."""
    if part.media.value.startswith("multipart/") and not part.is_container:
        # Text that was never cut, or a container too deep to be opened.
        return "text/plain"
    return part.media.value if is_media_type(part.media.value) else default


def disposition(part: Part) -> Structured:
    """Content-Disposition; the value is "" when there is none or it is neither of the two known ones."""
    raw = part.block.first("content-disposition")
    if not raw:
        return Structured("", {})
    found = parse_structured(raw)
    # RFC 2183 section 2.8: an unknown disposition is an attachment, but only when it is a token at all.
    if found.value in {"inline", "attachment"}:
        return found
    return Structured("attachment" if found.value.isidentifier() else "", found.parameters)


def content_id(part: Part) -> str:
    """Content-ID without angle brackets."""
    return field_text(part.block.first("content-id")[:1000]).strip("<> ")


def decode_transfer(raw: bytes, part: Part, defects: list[Defect]) -> bytes:
    """Undo the content transfer encoding; what is malformed or unknown gives what can be had."""
    body = raw[part.body : part.end]
    field = part.block.first("content-transfer-encoding")[:200]
    if not field:
        return body
    name = field_text(field)
    encoding = (
        re.split(r"[;\s(]", name.lower().strip(), maxsplit=1)[0].replace("-bit", "bit").replace("bits", "bit")
    )
    if encoding == "base64":
        return _decode_base64(body, defects)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    if encoding not in _IDENTITY:
        defects.append(Defect(Code.TRANSFER_ENCODING_UNKNOWN, printable(name)))
    return body


def _decode_base64(body: bytes, defects: list[Defect]) -> bytes:
    kept = body.translate(None, _NOT_BASE64)
    clean_body = len(kept) == len(body.translate(None, _LINE_SPACE))
    # Several encoded pieces one after the other: padding in the middle ends one, not all.
    pieces = (
        [piece for piece in kept.split(b"=") if piece] if b"=" in kept.rstrip(b"=") else [kept.rstrip(b"=")]
    )
    whole = all(len(piece) % 4 != 1 for piece in pieces)
    if not clean_body or not whole:
        defects.append(Defect(Code.TRANSFER_ENCODING_MALFORMED, "base64"))
    return b"".join(map(_decode_piece, pieces))


def _decode_piece(piece: bytes) -> bytes:
    if len(piece) % 4 == 1:
        piece = piece[:-1]
    return binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))


def text_of(content: bytes, part: Part, defects: list[Defect]) -> str:
    """Decode a text part; line ends become LF, and NUL, which no text has, a space."""
    charset = part.media.parameters.get("charset", "")
    text, code = decode_text(content, charset)
    if code:
        defects.append(Defect(code, printable(charset or "us-ascii")))
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")


def wanted_name(part: Part, shown: Structured) -> str:
    """Return the file name as received and decoded, "" when there is none. Not fit for any file system."""
    name = shown.parameters.get("filename") or part.media.parameters.get("name") or ""
    # RFC 2231 forbids encoded words here, and half of all mail has them.
    return decode_words(name)


def safe_filename(name: str, media: str, number: int) -> str:
    """Make a name of one path segment, without control or direction characters, of bounded length.

    Without a name it is `attachment-<number>` with an extension for the media type.
    """
    name = unicodedata.normalize("NFC", clean(_DIRECTION.sub("", name)))
    name = name.replace("\\", "/").rpartition("/")[2].strip(" .")
    name = re.sub(r'[<>:"|?*]', "_", name)
    if not name:
        return f"attachment-{number}.{_EXTENSIONS.get(media, 'bin')}"
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > 20:
        stem, dot, extension = name, "", ""
    room = FILENAME_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + dot + extension


def is_denied(filename: str) -> bool:
    """Tell whether the extension is denied, however it is written."""
    return filename.rpartition(".")[2].strip().lower() in DENIED_EXTENSIONS
