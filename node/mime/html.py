"""HTML of strangers: sanitised for display, and read as text. Bounded, whatever it is made of.

An HTML parser must reopen formatting elements and walk up its open elements, so that 30 kB can become
7 MB and 500 kB can take 20 s. Complexity is therefore estimated first, and what costs too much is not
parsed at all.
"""

from __future__ import annotations

import html as entities
import re

import nh3
from selectolax.lexbor import LexborHTMLParser

DEPTH_BUDGET = 5_000_000
"""Sum over all tags of the elements open there; a large newsletter has 500,000. The limit is some 50 ms."""

FORMATTING_BUDGET = 1_000_000
"""Sum over all tags of the formatting elements open there: the parser makes at most as many elements more."""

TAG_LENGTH = 4_096
"""Characters of one tag outside its quoted values: attributes are compared with each other."""

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
    f"{first}{second}"
    for first, seconds in {
        "background": ("", "-color"),
        "border": ("", "-collapse", "-color", "-radius", "-spacing", "-style", "-width"),
        "border-bottom": ("", "-color", "-style", "-width"),
        "border-left": ("", "-color", "-style", "-width"),
        "border-right": ("", "-color", "-style", "-width"),
        "border-top": ("", "-color", "-style", "-width"),
        "font": ("", "-family", "-size", "-style", "-variant", "-weight"),
        "list-style": ("", "-position", "-type"),
        "margin": ("", "-bottom", "-left", "-right", "-top"),
        "padding": ("", "-bottom", "-left", "-right", "-top"),
        "text": ("-align", "-decoration", "-indent", "-transform", "-overflow"),
        "": ("clear", "color", "direction", "display", "float", "height", "letter-spacing", "line-height"),
        "max": ("-height", "-width"),
        "min": ("-height", "-width"),
        "": (
            "box-sizing clear color direction display float height letter-spacing line-height overflow"
            " overflow-wrap table-layout vertical-align white-space width word-break word-spacing word-wrap"
        ).split(),
    }.items()
    for second in seconds
}
# Everything that keeps a letter in its own frame: no position, no z-index, no content.


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name in {"href", "src", "cite"} and value.lstrip().lower().startswith("data:"):
        return value if tag == "img" and _IMAGE_DATA.match(value.lstrip()) else None
    return value


_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_CLEAN_CONTENT,
    attributes=_ATTRIBUTES,
    attribute_filter=_attribute,
    filter_style_properties=_STYLES,
    url_schemes=_SCHEMES,
    link_rel="noopener noreferrer",
)

_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_FORMATTING = frozenset("a b big code em font i nobr s small strike strong tt u".split())
_OPTIONAL_END = frozenset("p li dt dd option optgroup tr td th tbody thead tfoot rp rt".split())
_UNTRUSTED = frozenset(
    "textarea xmp iframe noembed noframes noscript plaintext svg math select frameset template".split()
)
_TOKEN = re.compile(
    r"""<!--(?!-?>)(?:(?!--!?>).)*+-->            # a whole comment
      | <(?P<raw>style|title|script)\b[^<>]*+>(?:[^<]|<!--)*+</(?P=raw)\s*+>
      | <[!?][^<>\[]*+>                           # doctype and the like
      | </(?P<close>[a-z][^\s<>"'/=]*+)\s*+>
      | <(?P<open>[a-z][^\s<>"'/=]*+)
          (?P<attributes>(?:[\s/]++|[^\s<>"'=/]++(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'|[^\s<>"'`=]++))?+)*+)>
      | <(?P<odd>/?[a-z!?][^\s<>"'/=]*+)          # anything else that may be a tag
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_QUOTED = re.compile(r"\"[^\"]*+\"|'[^']*+'")


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
    if len(html) <= TAG_LENGTH and html.count("<") <= 200:
        return False
    estimate = _Estimate()
    for token in _TOKEN.finditer(html):
        if name := token["open"]:
            attributes = token["attributes"]
            if len(attributes) > TAG_LENGTH and len(_QUOTED.sub("", attributes)) > TAG_LENGTH:
                return True
            estimate.open(name.lower())
        elif name := token["close"]:
            estimate.close(name.lower())
        elif name := token["odd"]:
            if _odd_tag_length(html, token.end()) > TAG_LENGTH:
                return True
            estimate.doubtful = True
            estimate.open(name.lower())
        if estimate.is_too_much():
            return True
    return False


def _odd_tag_length(html: str, start: int) -> int:
    end = html.find(">", start, start + TAG_LENGTH + 2)
    return (end if end >= 0 else min(len(html), start + TAG_LENGTH + 2)) - start


def sanitise(html: str) -> str:
    """Keep what a letter needs and nothing that acts; the caller has asked `is_too_complex`."""
    return _CLEANER.clean(html)


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
