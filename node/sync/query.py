"""Query parameters as CouchDB reads them: booleans, integers, JSON values."""

from __future__ import annotations

import re
from collections.abc import Mapping

from node.sync.json_text import Json, parsed
from node.sync.refusal import Refusal, bad_request, query_parse_error

_DEPTH = 10

_INTEGER = re.compile(r"-?[0-9]{1,19}")


class Query:
    """The parameters of one request; what is absent is None, False or the given default.

    Members of a JSON body that mean the same (`keys`, `limit` … of a POST) can be laid over them.
    All readers raise `query_parse_error` refusals.
    """

    def __init__(self, parameters: Mapping[str, str], body: Mapping[str, Json] | None = None) -> None:
        self._parameters = parameters
        self._body = body or {}

    def __contains__(self, name: str) -> bool:
        return name in self._body or name in self._parameters

    def over(self, body: Mapping[str, Json]) -> Query:
        """Lay the members of a request body over the parameters."""
        return Query(self._parameters, body)

    def text(self, name: str, default: str = "") -> str:
        """Read a parameter as it stands."""
        value = self._body[name] if name in self._body else self._parameters.get(name, default)
        if not isinstance(value, str):
            raise query_parse_error(f"{name} is a text")
        return value

    def json_or_text(self, name: str) -> Json:
        """Read a parameter as JSON, or as text where it isn't JSON."""
        value = self._body[name] if name in self._body else self._parameters.get(name, "")
        return value.strip('"') if isinstance(value, str) else value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read `true` or `false`."""
        if name not in self:
            return default
        value = self._body[name] if name in self._body else self._parameters[name]
        known: dict[Json, bool] = {"true": True, "false": False}
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value not in known:
            raise query_parse_error(f"Invalid boolean parameter: {name}")
        return known[value]

    def number(self, name: str) -> int | None:
        """Read a non-negative integer, also one written as a JSON text."""
        if name not in self:
            return None
        value = self._body[name] if name in self._body else self._parameters[name]
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            text = str(value).strip('"')
            if not _INTEGER.fullmatch(text):
                raise query_parse_error(f"Invalid value for integer parameter: {name}")
            number = int(text)
        if not 0 <= number < 2**63:
            raise query_parse_error(f"Invalid value for non-negative integer parameter: {name}")
        return number

    def json(self, *names: str) -> Json:
        """Read the first of these parameters (a name and its aliases) as a JSON value."""
        for name in names:
            if name in self._body:
                return self._body[name]
            if name in self._parameters:
                return _json(self._parameters[name], name)
        return None

    def texts(self, name: str, limit: int) -> list[str] | None:
        """Read a JSON array of texts, at most `limit` of them."""
        value = self.json(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise query_parse_error(f"`{name}` parameter must be an array of strings.")
        if len(value) > limit:
            raise Refusal(413, "too_large", f"{name} has {limit} entries at most")
        return value


def _json(text: str, name: str) -> Json:
    try:
        return parsed(text, _DEPTH)
    except Refusal:
        raise bad_request(f"invalid UTF-8 JSON in {name}") from None
