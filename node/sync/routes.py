"""Which call answers which path and method of a user database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from node.sync import (
    attachment_calls,
    bulk_calls,
    changes_calls,
    database_calls,
    document_calls,
    find_calls,
    listing_calls,
    local_calls,
)
from node.sync.call import Call
from node.sync.refusal import bad_request, not_allowed

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Methods = Mapping[str, Handler]

_OPERATORS: Final[Methods] = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), database_calls.operators_only)
_JAVASCRIPT: Final[Methods] = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), database_calls.no_javascript)

DATABASE: Final[Methods] = {
    "GET": database_calls.get_database,
    "PUT": database_calls.put_database,
    "POST": document_calls.post_document,
    "DELETE": database_calls.delete_database,
}
SPECIAL: Final[Mapping[str, Methods]] = {
    "_all_docs": {"GET": listing_calls.get_all_docs, "POST": listing_calls.post_all_docs},
    "_bulk_docs": {"POST": bulk_calls.bulk_docs},
    "_bulk_get": {"POST": bulk_calls.bulk_get},
    "_changes": {"GET": changes_calls.get_changes, "POST": changes_calls.post_changes},
    "_compact": {"POST": database_calls.compact},
    "_ensure_full_commit": {"POST": database_calls.ensure_full_commit},
    "_explain": {"POST": find_calls.explain},
    "_find": {"POST": find_calls.find},
    "_index": {
        "GET": find_calls.get_indexes,
        "POST": find_calls.post_index,
        "DELETE": find_calls.delete_index,
    },
    "_local": {
        "GET": local_calls.get_local,
        "PUT": local_calls.put_local,
        "DELETE": local_calls.delete_local,
    },
    "_missing_revs": {"POST": bulk_calls.missing_revs},
    "_purge": _OPERATORS,
    "_purged_infos_limit": _OPERATORS,
    "_revs_diff": {"POST": bulk_calls.revs_diff},
    "_revs_limit": {**_OPERATORS, "GET": database_calls.get_revs_limit},
    "_security": {**_OPERATORS, "GET": database_calls.get_security},
    "_sync_shards": _OPERATORS,
    "_temp_view": _JAVASCRIPT,
    "_view_cleanup": _OPERATORS,
}
DOCUMENT: Final[Methods] = {
    "GET": document_calls.get_document,
    "PUT": document_calls.put_document,
    "DELETE": document_calls.delete_document,
}
ATTACHMENT: Final[Methods] = {
    "GET": attachment_calls.get_attachment,
    "PUT": attachment_calls.put_attachment,
    "DELETE": attachment_calls.delete_attachment,
}


def segments(raw_path: str) -> tuple[str, ...]:
    """Cut a raw path at its slashes and decode each piece exactly once.

    So `%2F` is a slash inside an id and `%252F` stays `%2F`. Raises a refusal for bytes that are no
    UTF-8. A trailing slash names nothing.
    """
    pieces = raw_path.split("/")
    if len(pieces) > 1 and not pieces[-1]:
        pieces.pop()
    try:
        return tuple(unquote_to_bytes(piece).decode() for piece in pieces)
    except UnicodeDecodeError:
        raise bad_request("the path is not UTF-8") from None


def handler_of(path: tuple[str, ...], method: str) -> Handler:
    """Find the call for a path below a database; raise `method_not_allowed` (405) when there is none."""
    methods = _methods(path)
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        raise not_allowed(*sorted(methods))
    return handler


def _methods(path: tuple[str, ...]) -> Methods:
    if not path:
        return DATABASE
    first = path[0]
    if first in SPECIAL:
        return SPECIAL[first]
    if first != "_design":
        return DOCUMENT if len(path) == 1 else ATTACHMENT
    if len(path) > 2 and path[2].startswith("_"):
        return _JAVASCRIPT
    return DOCUMENT if len(path) <= 2 else ATTACHMENT
