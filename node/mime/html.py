"""HTML of strangers: sanitised for display, and read as text. Bounded, whatever it is made of.

An HTML parser must reopen formatting elements and walk up its open elements, so that 30 kB can become
7 MB and 500 kB can take 20 s. Complexity is therefore estimated first, and what costs too much is not
parsed at all.
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Callable

import nh3
from selectolax.lexbor import LexborHTMLParser

DEPTH_BUDGET = 5_000_000
"""Sum over all tags of the elements open there; a large newsletter has 500,000. The limit is some 50 ms."""

FORMATTING_BUDGET = 1_000_000
"""Sum over all tags of the formatting elements open there: the parser makes at most as many elements more."""

ATTRIBUTES = 500
"""Attributes of one tag: the parser compares each with all before it."""

REFERENCE_BUDGET = 10_000_000_000
"""Ampersands times length: the tokeniser moves the rest of the text at each. The limit is some 150 ms."""

_SCHEMES = {"http", "https", "mailto", "tel", "cid", "data"}
# Wire spec section 5.6: cid, http, https, data, relative. mailto and tel are what letters are made of.

_IMAGE_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp|bmp);", re.IGNORECASE)
# A data link in <a> would open a page of the stranger's choice under no name at all: images only.

_TAGS = nh3.ALLOWED_TAGS | {"font", "tfoot", "big", "address", "section", "main"}
_CLEAN_CONTENT = {"script", "style", "title", "template", "noscript"}
_ANYWHERE = {"style", "dir", "lang", "title", "align", "valign", "width", "height", "bgcolor"}
_ATTRIBUTES = {
    **nh3.ALLOWED_ATTRIBUTES,
    "*": _ANYWHERE,
    "font": {"color", "face", "size"},
    "table": {"border", "cellpadding", "cellspacing", "summary"},
    "td": {"colspan", "rowspan", "nowrap", "headers", "scope"},
    "th": {"colspan", "rowspan", "nowrap", "headers", "scope"},
    "img": {"src", "alt", "border", "hspace", "vspace"},
    "ol": {"start", "type"},
    "ul": {"type"},
}
_STYLES = {
    *("background", "background-color", "box-sizing", "clear", "color", "direction", "display", "float"),
    *("font", "font-family", "font-size", "font-style", "font-variant", "font-weight", "height"),
    *("letter-spacing", "line-height", "list-style", "list-style-position", "list-style-type"),
    *("max-height", "max-width", "min-height", "min-width", "overflow", "overflow-wrap", "table-layout"),
    *("text-align", "text-decoration", "text-indent", "text-overflow", "text-transform", "vertical-align"),
    *("white-space", "width", "word-break", "word-spacing", "word-wrap"),
    *("border", "border-collapse", "border-color", "border-radius", "border-spacing", "border-style"),
    *(
        f"{what}-{side}"
        for what in ("border", "margin", "padding")
        for side in ("bottom", "left", "right", "top")
    ),
    *("border-width", "margin", "padding"),
}
# Everything that keeps a letter in its own frame: no position, no z-index, no content.


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name in {"href", "src", "cite"} and value.lstrip().lower().startswith("data:"):
        return value if tag == "img" and _IMAGE_DATA.match(value.lstrip()) else None
    return value


def _cleaner(schemes: set[str], attribute: Callable[[str, str, str], str | None] | None) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=_CLEAN_CONTENT,
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        filter_style_properties=_STYLES,
        url_schemes=schemes,
        link_rel="noopener noreferrer",
    )


_CLEANER = _cleaner(_SCHEMES - {"data"}, None)
_DATA_CLEANER = _cleaner(_SCHEMES, _attribute)
# A call back for every attribute makes it three times slower: only where there is a data link to look at.

_VOID = frozenset(
    {
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    }
)
_FORMATTING = frozenset(
    {"a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"}
)
_OPTIONAL_END = frozenset(
    {"p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th", "tbody", "thead", "tfoot", "rp", "rt"}
)
_UNTRUSTED = frozenset(
    {"style", "title", "script", "textarea", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"}
    | {"svg", "math", "select", "frameset", "template"}
)
# Elements inside which the text may mean something else than its tags say.

_ATTRIBUTE_SYNTAX = r"""(?:=[^\t\n\f\r />=]*+|[^\t\n\f\r />=]++)
    (?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:"[^"]*+"|'[^']*+'|[^\t\n\f\r >"'][^\t\n\f\r >]*+)?+)?+"""
_ATTRIBUTE = re.compile(_ATTRIBUTE_SYNTAX, re.VERBOSE)
_TOKEN = re.compile(
    rf"""<!--(?:-?>|.*?(?:--!?>|\Z))
      | <(?P<raw>style|title|script)\b[^<>]*+>(?:[^<]++|<!--)*+</(?P=raw)[\t\n\f\r ]*+>
      | <(?:[!?]|/[^a-z>])[^>]*+>?
      | <(?P<close>/?)(?P<name>[a-z][^\t\n\f\r />]*+)
        (?P<attributes>(?:[\t\n\f\r /]++|{_ATTRIBUTE_SYNTAX})*+)>?
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# Tags and comments as the HTML standard cuts them (section 13.2.5). Each goes at least to where its search
# ended, so that no text is looked at twice.


class _Estimate:
    """An upper bound of what parsing costs.

    End tags count only where no reading of the text can disagree: they end the innermost open
    element, or one whose remaining children end by themselves. After anything doubtful none counts.
    """

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.formatting = 0
        self.depths = 0
        self.formattings = 0
        self.doubtful = False

    def open(self, name: str) -> None:
        self.depths += len(self.stack)
        self.formattings += self.formatting
        self.doubtful = self.doubtful or name in _UNTRUSTED
        if name not in _VOID:
            if not self.doubtful and name in _OPTIONAL_END and self.stack and self.stack[-1] == name:
                self.stack.pop()
            self.stack.append(name)
            self.formatting += name in _FORMATTING

    def close(self, name: str) -> None:
        self.depths += len(self.stack)
        self.formattings += self.formatting
        if self.doubtful:
            return
        top = len(self.stack) - 1
        while top >= 0 and self.stack[top] != name and self.stack[top] in _OPTIONAL_END:
            top -= 1
        if top >= 0 and self.stack[top] == name:
            del self.stack[top:]
            self.formatting -= name in _FORMATTING

    def is_too_much(self) -> bool:
        return self.depths > DEPTH_BUDGET or self.formattings > FORMATTING_BUDGET


def is_too_complex(html: str) -> bool:
    """Tell, in linear time, whether parsing this HTML would cost more than the budgets allow."""
    if len(html) <= 4_096 and html.count("<") <= 200:
        return False
    if html.count("&") * len(html) > REFERENCE_BUDGET:
        return True
    estimate = _Estimate()
    for token in _TOKEN.finditer(html):
        name = token["name"]
        if not name:
            continue
        attributes = token["attributes"]
        if len(attributes) > ATTRIBUTES and len(_ATTRIBUTE.findall(attributes)) > ATTRIBUTES:
            return True
        (estimate.close if token["close"] else estimate.open)(name.lower())
        if estimate.is_too_much():
            return True
    return False


def sanitise(html: str) -> str:
    """Keep what a letter needs and nothing that acts; the caller has asked `is_too_complex`."""
    # Written with a character reference it is no data link to us, and is dropped.
    return (_DATA_CLEANER if "data:" in html.lower() else _CLEANER).clean(html)


_BLOCKS = re.compile(
    r"(?i)<(?:br|/p|/div|/tr|/h[1-6]|/li|/ul|/ol|/table|/blockquote|/pre|/section|/header|/footer|hr)\b[^<>]*+>"
)
_SPACES = re.compile(r"[ \t\r\n\f\u00a0]+")
_NEWLINES = re.compile(r" *\x00 *(?:\x00 *)*")
_ANY_TAG = re.compile(r"<[^<>]*+>?")


def to_text(sanitised: str) -> str:
    """Read sanitised HTML as text: blocks become lines, runs of white space one space."""
    if not sanitised:
        return ""
    # U+0000 can't occur in parsed HTML: it stands for a line end until white space is folded.
    marked = _BLOCKS.sub(lambda tag: "\ue000" + tag[0], sanitised)
    body = LexborHTMLParser(marked).body
    return _fold(body.text(deep=True) if body is not None else "")


def rough_text(html: str) -> str:
    """Read HTML that is too complex to parse: tags are cut out, and that is all."""
    return _fold(entities.unescape(_ANY_TAG.sub(" ", _BLOCKS.sub("\ue000", html))))


def _fold(text: str) -> str:
    folded = _SPACES.sub(" ", text).replace("\ue000", "\0")
    lines = _NEWLINES.sub(lambda run: "\n" * min(run[0].count("\0"), 2), folded)
    return lines.replace("\0", "\n").strip()


def from_text(text: str) -> str:
    """Show plain text among HTML."""
    return f"<pre>{entities.escape(text, quote=False)}</pre>"
