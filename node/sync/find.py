"""Mango queries: a plan (folder index, ids, or everything), candidates in order, matches, sort, fields."""

from __future__ import annotations

import asyncio
import base64
import heapq
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from events.errors import MailioError
from node.sync.changes import members_of
from node.sync.collation import MISSING, key
from node.sync.database import Database
from node.sync.incoming import DESIGN
from node.sync.json_text import Json, parsed
from node.sync.limits import SyncLimits
from node.sync.refusal import Refusal, bad_request, too_large
from node.sync.selector import Selector, compiled, field_path, reached
from node.sync.turns import Turns
from projections.view_store import Document

FOLDER_INDEX: Final = "client-folder-created-desc-index"
"""The index that every user database has (wire spec section 6.1): folder and created, both descending."""

DEFAULT_LIMIT: Final = 25

SORTED_AT_ONCE: Final = 500
"""Matches that are sorted in one go: some milliseconds."""

_SCANNED: Final = "no index fits this query: documents were looked at one by one"
_SORTED: Final = "no index has this order: all matches were sorted"


Match = tuple[Document, dict[str, Json]]
"""A document, and what selectors see of it."""

Row = tuple[tuple[Json, ...], str]
"""The values by which a document is sorted, and its id."""


class Sort(msgspec.Struct, frozen=True):
    """The wanted order: field paths, all in one direction."""

    fields: tuple[str, ...] = ()
    descending: bool = False


class Mango(msgspec.Struct, frozen=True, kw_only=True):
    """One `_find` request. `start` is where the bookmark says that the answer before ended."""

    selector: Selector
    limit: int = DEFAULT_LIMIT
    skip: int = 0
    start: int = 0
    sort: Sort = Sort()
    fields: tuple[str, ...] = ()
    use_index: str = ""
    stats: bool = False
    conflicts: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the candidates are found: in one folder of the index, or in a range of ids."""

    folder: str | None = None
    created_from: int | None = None
    created_to: int | None = None
    descending: bool = False
    startkey: str | None = None
    endkey: str | None = None
    sorts: bool = False


class Found(msgspec.Struct, kw_only=True):
    """What a query gave: matches in order, the bookmark, and how much was looked at."""

    documents: list[Match]
    bookmark: str
    examined: int = 0
    warnings: tuple[str, ...] = ()


def mango(body: dict[str, Json], limits: SyncLimits) -> Mango:
    """Read the body of a request; raises refusals."""
    if "selector" not in body:
        raise Refusal(400, "missing_required_key", "Missing required key: selector")
    fields = body.get("fields", [])
    if fields == "all_fields":
        fields = []
    if not isinstance(fields, list) or not all(isinstance(each, str) for each in fields):
        raise Refusal(400, "invalid_fields", "fields is an array of texts")
    sort = sort_of(body.get("sort", []))
    for named in (fields, sort.fields):
        if len(named) > limits.find_fields or sum(map(len, named)) > limits.selector_bytes:
            raise too_large(f"{limits.find_fields} fields and {limits.selector_bytes} bytes of names at most")
    return Mango(
        selector=compiled(body["selector"], limits),
        limit=min(_number(body, "limit", DEFAULT_LIMIT), limits.find_rows),
        skip=_number(body, "skip", 0),
        start=_bookmark(body.get("bookmark")),
        sort=sort,
        fields=tuple(fields),
        use_index=index_name(body.get("use_index", "")),
        stats=body.get("execution_stats") is True,
        conflicts=body.get("conflicts") is True,
    )


def _number(body: dict[str, Json], name: str, default: int) -> int:
    value = body.get(name, default)
    if type(value) is not int or value < 0:
        raise Refusal(400, f"invalid_{name}_value", f"{name} is a number of 0 or more")
    return value


def sort_of(value: Json) -> Sort:
    """Read a sort order; CouchDB allows one direction for all fields."""
    if not isinstance(value, list):
        raise Refusal(400, "invalid_sort_json", "sort is an array")
    fields, directions = [], set()
    for entry in value:
        match entry:
            case str():
                name, direction = entry, "asc"
            case dict() if len(entry) == 1:
                ((name, direction),) = entry.items()
            case _:
                raise Refusal(400, "invalid_sort_field", "a sort field is a name or {name: direction}")
        if direction not in {"asc", "desc"}:
            raise Refusal(400, "invalid_sort_dir", "a sort direction is asc or desc")
        fields.append(name)
        directions.add(direction)
    if len(directions) > 1:
        raise Refusal(400, "unsupported_mixed_sort", "Sorts currently only support a single direction.")
    return Sort(tuple(fields), directions == {"desc"})


def index_name(value: Json) -> str:
    """Read `use_index`: a design document's name, or that and the index's name."""
    match value:
        case str():
            return value.removeprefix(DESIGN)
        case [str(name)] | [str(name), str()]:
            return name.removeprefix(DESIGN)
    raise Refusal(400, "invalid_index_name", "use_index is a name or an array of one or two names")


def _bookmark(value: Json) -> int:
    if value in {None, "", "nil"}:
        return 0
    try:
        number = parsed(base64.urlsafe_b64decode(str(value)), 1)
    except (ValueError, MailioError):
        number = None
    if type(number) is not int or number < 0:
        raise Refusal(400, "invalid_bookmark", "Invalid bookmark value")
    return number


def bookmark_at(place: int) -> str:
    """Write a bookmark."""
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def plan(query: Mango) -> Plan:
    """Choose where the candidates come from."""
    demands = _demands(query.selector.source)
    folder = demands.get("folder", {}).get("$eq")
    ordered = query.sort.fields in {(), ("folder",), ("created",), ("folder", "created")}
    created = demands.get("created")
    wants_created = "created" in query.sort.fields or query.use_index == FOLDER_INDEX
    indexed = wants_created if created is None else _is_indexed(created)
    if isinstance(folder, str) and ordered and indexed:
        low, high = _bounds(demands.get("created", {}))
        descending = query.sort.descending if query.sort.fields else query.use_index == FOLDER_INDEX
        return Plan(folder=folder, created_from=low, created_to=high, descending=descending)
    ids = demands.get("_id", {})
    by_id = query.sort.fields in {(), ("_id",)}
    exact = ids.get("$eq")
    low_id, high_id = ids.get("$gte", ids.get("$gt", exact)), ids.get("$lte", ids.get("$lt", exact))
    descending = by_id and query.sort.descending
    start = low_id if isinstance(low_id, str) else None
    end = high_id if isinstance(high_id, str) else None
    if descending:
        start, end = end, start
    return Plan(startkey=start, endkey=end, descending=descending, sorts=not by_id)


def _demands(selector: Json) -> dict[str, dict[str, Json]]:
    """Operators that every match must fulfil, by field: those of the top level and of `$and`."""
    found: dict[str, dict[str, Json]] = {}
    for name, value in selector.items() if isinstance(selector, dict) else ():
        if name == "$and" and isinstance(value, list):
            for each in value:
                for field, operators in _demands(each).items():
                    found.setdefault(field, {}).update(operators)
        elif not name.startswith("$"):
            operators = value if isinstance(value, dict) else {"$eq": value}
            found.setdefault(name, {}).update(operators)
    return found


def _is_indexed(operators: dict[str, Json]) -> bool:
    """Whether the folder index has all that is wanted: it knows documents whose `created` is a number."""
    return bool(operators) and all(_of_numbers(name, value) for name, value in operators.items())


def _of_numbers(name: str, value: Json) -> bool:
    """Whether it is a bound among numbers, or says no more than that there is something."""
    if name in {"$gt", "$gte"} and value is None:
        return True
    if name == "$exists":
        return value is True
    return name in {"$eq", "$gt", "$gte", "$lt", "$lte"} and type(value) in {int, float}


def _bounds(operators: dict[str, Json]) -> tuple[int | None, int | None]:
    """Bounds of `created` in whole milliseconds, wide enough for fractions: matches are tested anyway."""
    low = _first(operators, "$gte", "$gt", "$eq")
    high = _first(operators, "$lte", "$lt", "$eq")
    return (None if low is None else math.floor(low), None if high is None else math.ceil(high))


def _first(operators: dict[str, Json], *names: str) -> float | None:
    for name in names:
        value = operators.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**62:
            return value
    return None


class Finder:
    """Runs queries on one database."""

    def __init__(self, database: Database, limits: SyncLimits) -> None:
        self._database = database
        self._limits = limits

    async def find(self, query: Mango) -> Found:
        """Return the matches of one page. Raises a refusal when too much would have to be looked at."""
        chosen = plan(query)
        first = query.start + query.skip
        page = slice(first, first + query.limit)
        found = Found(documents=[], bookmark="nil", warnings=_warnings(query, chosen))
        if query.limit:
            matches = self._matches(query, chosen, found)
            found.documents = await (
                self._sorted(matches, query.sort, page) if chosen.sorts else _paged(matches, page)
            )
        if found.documents:
            found.bookmark = bookmark_at(first + len(found.documents))
        return found

    async def _matches(self, query: Mango, chosen: Plan, found: Found) -> AsyncIterator[Match]:
        turns = Turns()
        async for document in self._candidates(chosen):
            found.examined += 1
            self._require_room(found.examined, chosen)
            members = members_of(document.id, document.winner)
            size = len(document.winner.body)
            if not document.id.startswith(DESIGN) and await query.selector.holds(members, size):
                yield document, members
            await turns.give()

    async def _sorted(self, matches: AsyncIterator[Match], sort: Sort, page: slice) -> list[Match]:
        """Sort by field values, then ids; documents without one of the fields are left out, as by an index.

        Only the values are kept: all matches may be a whole mailbox.
        """
        paths = [field_path(name) for name in sort.fields]
        rows: list[Row] = []
        async for document, members in matches:
            values = tuple(reached(members, path) for path in paths)
            if MISSING not in values:
                rows.append((values, document.id))
        ids = await asyncio.to_thread(_in_order, rows, sort.descending)
        documents = [await self._database.get(each) for each in ids[page]]
        return [
            (document, members_of(document.id, document.winner))
            for document in documents
            if document is not None and not document.winner.deleted
        ]

    def _candidates(self, chosen: Plan) -> AsyncIterator[Document]:
        if chosen.folder is not None:
            return self._database.in_folder(
                chosen.folder, chosen.created_from, chosen.created_to, descending=chosen.descending
            )
        return self._database.in_range(
            chosen.startkey, chosen.endkey, descending=chosen.descending, bodies=True
        )

    def _require_room(self, examined: int, chosen: Plan) -> None:
        if examined > self._limits.find_documents and chosen.folder is None:
            raise bad_request(
                f"the query would look at more than {self._limits.find_documents} documents: "
                f"narrow it by folder and created, with use_index {FOLDER_INDEX}"
            )


def _warnings(query: Mango, chosen: Plan) -> tuple[str, ...]:
    warnings = []
    if chosen.folder is None and chosen.startkey is None and chosen.endkey is None:
        warnings.append(_SCANNED)
    if chosen.sorts:
        warnings.append(_SORTED)
    if query.use_index == FOLDER_INDEX and chosen.folder is None:
        warnings.append(f"{FOLDER_INDEX} needs one folder, and no other order than folder and created")
    return tuple(warnings)


async def _paged(matches: AsyncIterator[Match], page: slice) -> list[Match]:
    """Take a part of what comes in order already; nothing behind it is looked at."""
    found: list[Match] = []
    passed = 0
    async for match in matches:
        passed += 1
        if passed > page.start:
            found.append(match)
        if passed >= page.stop:
            break
    return found


def _in_order(rows: list[Row], descending: bool) -> list[str]:
    """Return the ids of rows, sorted."""
    keyed = [((*map(key, values), ident), ident) for values, ident in rows]
    # A sort holds the interpreter lock to its end, so it goes in pieces.
    pieces = (keyed[start : start + SORTED_AT_ONCE] for start in range(0, len(keyed), SORTED_AT_ONCE))
    ordered = [sorted(piece, key=_key, reverse=descending) for piece in pieces]
    return [ident for _, ident in heapq.merge(*ordered, key=_key, reverse=descending)]


def _key(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def picked(members: dict[str, Json], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Keep only some fields of a document, nested ones in their objects."""
    kept: dict[str, Any] = {}
    for path in paths:
        value = reached(members, path)
        if value is not MISSING:
            _keep(kept, path, value)
    return kept


def _keep(kept: dict[str, Any], path: tuple[str, ...], value: Json) -> None:
    """Put a value where its path leads, unless it lies in an array that is kept whole already."""
    *steps, name = path
    inner: Any = kept
    for step in steps:
        inner = inner.setdefault(step, {})
        if not isinstance(inner, dict):
            return
    inner[name] = value
