"""Mango selectors: compiled once, bounded in size, and matched without running anything of the client's.

Operators and their meaning: CouchDB documentation, `_find`, "Selector Syntax".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from node.sync.collation import MISSING, placed_by, rank
from node.sync.json_text import Json, written
from node.sync.limits import SyncLimits
from node.sync.pattern import Budget, Pattern
from node.sync.refusal import Refusal, bad_request

Test = Callable[[Any], bool]
"""A condition on one value; `MISSING` stands for a member that isn't there."""

Spend = Callable[[int], None]
"""Told how much work is about to be done; raises a refusal when it is too much."""

_BESIDE: Final = ThreadPoolExecutor(1, "patterns")
"""Where patterns are looked for: one thread, so that all together take the loop half its time at most."""

WORK_ON_LOOP: Final = 500_000
"""Bytes of the selector times bytes of the document: up to this, a test takes some milliseconds at most."""

_TYPES: dict[str, Callable[[Json], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class Spent:
    """What a selector has used of the work that it may take: for all documents of a request together.

    A test is charged for each of its `terms`; more only where it looks at more: at the elements of an array,
    or at a text to be put in order.
    """

    def __init__(self, limits: SyncLimits) -> None:
        self.terms = 0
        self.has_patterns = False
        self.work = Budget(limits.selector_steps, "the selector")
        self.patterns = Budget(limits.regex_steps)


class Selector:
    """A compiled selector. `equals` and `ranges` tell a planner what the top level demands."""

    def __init__(self, test: Test, source: dict[str, Json], size: int, spent: Spent) -> None:
        """Wrap a compiled test. `size` is the length of the source as JSON."""
        self._test = test
        # Patterns may take all of their budget for one document.
        self._most = 0 if spent.has_patterns else WORK_ON_LOOP // size
        self._spent = spent
        self.source = source

    def matches(self, document: dict[str, Json]) -> bool:
        """Tell whether a document (with `_id`) matches. Raises a refusal when all work is spent."""
        self._spent.work.spend(self._spent.terms)
        return self._test(document)

    def renew(self) -> None:
        """Allow as much work again as at first."""
        self._spent.work.renew()
        self._spent.patterns.renew()

    async def holds(self, document: dict[str, Json], size: int) -> bool:
        """Tell what `matches` tells of a document of so many bytes.

        Patterns, and what may be much work, are looked for beside the loop, which goes on meanwhile.
        """
        if size <= self._most:
            return self.matches(document)
        return await asyncio.get_running_loop().run_in_executor(_BESIDE, self.matches, document)


def compiled(selector: Json, limits: SyncLimits) -> Selector:
    """Check and compile a selector; raises `bad_request` refusals with what is wrong."""
    if not isinstance(selector, dict):
        raise bad_request("Selector must be a JSON object")
    size = len(written(selector))
    if size > limits.selector_bytes:
        raise Refusal(413, "too_large", f"a selector has {limits.selector_bytes} bytes at most")
    compiler = _Compiler(limits)
    test = compiler.conditions(selector, 0)
    return Selector(test, selector, size, compiler.spent)


def invalid_operator(name: str) -> Refusal:
    """Refuse an operator that does not exist."""
    return Refusal(400, "invalid_operator", f"Invalid operator: {name[:100]}")


def bad_argument(operator: str, value: Json) -> Refusal:
    """Refuse an operator's argument."""
    text = written(value)[:100].decode(errors="replace")
    return Refusal(400, "bad_arg", f"Bad argument for operator {operator}: {text}")


class _Compiler:
    """Builds tests from a selector, counting terms and depth."""

    def __init__(self, limits: SyncLimits) -> None:
        self._limits = limits
        self.spent = Spent(limits)

    def conditions(self, selector: Json, depth: int) -> Test:
        """All conditions of an object, on the members of a value or on the value itself."""
        if not isinstance(selector, dict):
            raise bad_request("a condition must be a JSON object")
        if depth > self._limits.selector_depth:
            raise bad_request(f"a selector is nested {self._limits.selector_depth} deep at most")
        tests = [self._condition(name, value, depth) for name, value in selector.items()]
        return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)

    def _count(self) -> None:
        self.spent.terms += 1
        if self.spent.terms > self._limits.selector_terms:
            raise bad_request(f"a selector has {self._limits.selector_terms} conditions at most")

    def _condition(self, name: str, value: Json, depth: int) -> Test:
        self._count()
        if name.startswith("$"):
            return self._operator(name, value, depth)
        path = field_path(name)
        if isinstance(value, dict) and value:
            return _on(path, self.conditions(value, depth + 1), missing=value == {"$exists": False})
        return _on(path, _equal(value))

    def _negation(self, selector: Json, depth: int) -> Test:
        """The opposite of an object's conditions, where a member that isn't there still matches nothing."""
        if not isinstance(selector, dict):
            raise bad_argument("$not", selector)
        if depth > self._limits.selector_depth:
            raise bad_request(f"a selector is nested {self._limits.selector_depth} deep at most")
        tests = [self._opposite(name, value, depth) for name, value in selector.items()]
        return lambda value: any(test(value) for test in tests)

    def _opposite(self, name: str, value: Json, depth: int) -> Test:
        self._count()
        if name == "$not":
            return self.conditions(value, depth + 1)
        if name in {"$and", "$or", "$nor"} and isinstance(value, list):
            if name == "$nor":
                return self._combination("$or", value, depth)
            tests = [self._negation(each, depth + 1) for each in value]
            if name == "$and":
                return lambda found: any(test(found) for test in tests)
            return lambda found: all(test(found) for test in tests)
        if name.startswith("$"):
            inner = self._operator(name, value, depth)
            return lambda found: not inner(found)
        opposite = self._negation(value if isinstance(value, dict) and value else {"$eq": value}, depth + 1)
        return _on(field_path(name), opposite, missing=value == {"$exists": True})

    def _operator(self, name: str, value: Json, depth: int) -> Test:
        match name:
            case "$and" | "$or" | "$nor":
                return self._combination(name, value, depth)
            case "$not":
                return self._negation(value, depth + 1)
            case "$elemMatch" | "$allMatch" | "$keyMapMatch":
                return self._elements(name, value, depth)
            case "$all":
                return self._all(value, depth)
            case "$regex":
                return self._regex(value)
            case _:
                return _simple(name, value, self.spent.work.spend)

    def _elements(self, name: str, value: Json, depth: int) -> Test:
        before = self.spent.terms
        test = self.conditions(value, depth + 1)
        every = _charged(self.spent.terms - before, self.spent.work.spend)
        if name == "$elemMatch":
            return lambda found: isinstance(found, list) and any(map(test, every(found)))
        if name == "$allMatch":
            return lambda found: isinstance(found, list) and bool(found) and all(map(test, every(found)))
        return lambda found: isinstance(found, dict) and any(map(test, every(found)))

    def _combination(self, name: str, value: Json, depth: int) -> Test:
        if not isinstance(value, list):
            raise bad_argument(name, value)
        tests = [self.conditions(each, depth + 1) for each in value]
        if name == "$and":
            return lambda found: all(test(found) for test in tests)
        if name == "$or":
            return lambda found: any(test(found) for test in tests)
        return lambda found: not any(test(found) for test in tests)

    def _all(self, value: Json, depth: int) -> Test:
        if not isinstance(value, list):
            raise bad_argument("$all", value)
        if len(value) == 1 and isinstance(value[0], dict) and "$elemMatch" in value[0]:
            return self.conditions(value[0], depth + 1)
        for _ in value:
            self._count()
        every = _charged(len(value), self.spent.work.spend)

        def has_all(found: Any) -> bool:
            if not isinstance(found, list) or not value:
                return False
            return _same(found, value) or all(any(_same(want, has) for has in every(found)) for want in value)

        return has_all

    def _regex(self, value: Json) -> Test:
        if not isinstance(value, str):
            raise bad_argument("$regex", value)
        if len(value) > self._limits.regex_characters:
            raise bad_request(f"a $regex has {self._limits.regex_characters} characters at most")
        self.spent.has_patterns = True
        pattern = Pattern(value, self.spent.patterns)
        return lambda found: isinstance(found, str) and pattern.found_in(found)


def _charged(conditions: int, spend: Spend) -> Callable[[Collection[Any]], Collection[Any]]:
    """Return what gives elements back once the work to put so many conditions to each is paid for."""

    def every(found: Collection[Any]) -> Collection[Any]:
        spend(conditions * len(found))
        return found

    return every


def field_path(name: str) -> tuple[str, ...]:
    """Split a field name at its dots; a backslash keeps a dot in the name."""
    parts, current, escaped = [], "", False
    for each in name:
        if escaped or each not in {".", "\\"}:
            current += ("\\" if escaped and each not in {".", "\\", "$"} else "") + each
            escaped = False
        elif each == "\\":
            escaped = True
        else:
            parts.append(current)
            current = ""
    return (*parts, current + ("\\" if escaped else ""))


def reached(value: Any, path: tuple[str, ...]) -> Any:
    """Follow a path of member names (and array places); `MISSING` where it ends early."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 7 and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def _on(path: tuple[str, ...], test: Test, *, missing: bool = False) -> Test:
    """Apply a test to the member at `path`; `missing` is the answer where there is none."""

    def holds(found: Any) -> bool:
        value = reached(found, path)
        return missing if value is MISSING else test(value)

    return holds


def _same(left: Json, right: Json) -> bool:
    # To Python, true is 1, in arrays and objects too; no other two values of different types are equal.
    if left != right:
        return False
    if isinstance(left, list):
        return all(map(_same, left, right))
    if isinstance(left, dict):
        return all(_same(value, right[name]) for name, value in left.items())
    return isinstance(left, bool) is isinstance(right, bool)


def _equal(want: Json) -> Test:
    return lambda found: found is not MISSING and _same(want, found)


def _ordered(holds: Callable[[int], bool], want: Json, spend: Spend) -> Test:
    compare = placed_by(want, spend)
    return lambda found: found is not MISSING and holds(compare(found))


_ORDERINGS: dict[str, Callable[[int], bool]] = {
    "$lt": lambda sign: sign < 0,
    "$lte": lambda sign: sign <= 0,
    "$gt": lambda sign: sign > 0,
    "$gte": lambda sign: sign >= 0,
}


def _simple(name: str, want: Json, spend: Spend) -> Test:
    """Operators whose argument is a plain value."""
    if name in _ORDERINGS:
        return _ordered(_ORDERINGS[name], want, spend)
    match name, want:
        case "$eq", _:
            return _equal(want)
        case "$ne", _:
            return lambda found: found is not MISSING and not _same(want, found)
        case "$exists", bool():
            return lambda found: (found is not MISSING) == want
        case "$in" | "$nin", list():
            return _membership(name, want, spend)
        case "$type", str() if want in _TYPES:
            holds = _TYPES[want]
            return lambda found: found is not MISSING and holds(found)
        case "$size", int() if not isinstance(want, bool):
            return lambda found: isinstance(found, list) and len(found) == want
        case "$beginsWith", str():
            return lambda found: isinstance(found, str) and found.startswith(want)
        case "$mod", [int(divisor), int(remainder)] if divisor != 0:
            return _modulo(divisor, remainder)
    known = {"$exists", "$in", "$nin", "$type", "$size", "$beginsWith", "$mod"}
    raise bad_argument(name, want) if name in known else invalid_operator(name)


def _membership(name: str, want: list[Json], spend: Spend) -> Test:
    plain = frozenset((rank(each), each) for each in want if not isinstance(each, list | dict))
    nested = [each for each in want if isinstance(each, list | dict)]
    every = _charged(1, spend)

    def among(value: Json) -> bool:
        if isinstance(value, list | dict):
            return any(_same(each, value) for each in every(nested))
        return (rank(value), value) in plain

    def inside(found: Any) -> bool:
        return among(found) or (isinstance(found, list) and any(map(among, every(found))))

    if name == "$in":
        return lambda found: found is not MISSING and inside(found)
    return lambda found: found is not MISSING and not inside(found)


def _modulo(divisor: int, remainder: int) -> Test:
    # The sign of the remainder is the dividend's, as in Erlang's `rem`.
    def holds(found: Any) -> bool:
        if not isinstance(found, int) or isinstance(found, bool):
            return False
        rest = abs(found) % abs(divisor)
        return (-rest if found < 0 else rest) == remainder

    return holds
