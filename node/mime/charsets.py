"""Bytes to text in whatever character set a stranger claims. Nothing raises, nothing is lost in silence."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from node.mime.limits import Code

_ALIASES = {
    # What mail says and what it means (WHATWG Encoding Standard, section 4.2).
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "iso-8859-8-i": "iso-8859-8",
    "x-sjis": "cp932",
    "x-gbk": "gb18030",
    "utf8": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
}

_NOT_CHARSETS = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
# Codecs of the standard library that are no character sets; idna and punycode are quadratic besides.

_SURROGATES = re.compile("[\ud800-\udfff]")


@lru_cache(256)
def _codec(charset: str) -> str | None:
    label = charset.strip().strip("'\"").lower()
    try:
        info = codecs.lookup(_ALIASES.get(label, label) if label.isascii() else "")
    except (LookupError, ValueError):
        return None
    is_text = getattr(info, "_is_text_encoding", False)
    return info.name if is_text and info.name.replace("-", "_") not in _NOT_CHARSETS else None


def decode_text(raw: bytes, charset: str) -> tuple[str, Code | None]:
    """Decode text; an empty `charset` stands for US-ASCII. The result holds no surrogates."""
    codec = _codec(charset[:60]) if charset else "utf-8"
    if codec is None:
        return _guess(raw), Code.CHARSET_UNKNOWN
    try:
        text = raw.decode(codec)
        return text if text.isascii() else _SURROGATES.sub("\ufffd", text), None
    except (UnicodeError, ValueError):
        pass
    if codec == "utf-8":
        return _guess(raw), Code.CHARSET_MISMATCH
    return _SURROGATES.sub("\ufffd", raw.decode(codec, "replace")), Code.CHARSET_MISMATCH


def _guess(raw: bytes) -> str:
    """UTF-8 when it is that, which hardly happens by chance; else Windows-1252."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
