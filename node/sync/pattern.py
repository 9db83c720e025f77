r"""Regular expressions in linear time: a pattern from a stranger can cost no more than its budget.

A backtracking engine needs exponential time for patterns such as `(a+)+$`. Here a pattern becomes a small
program whose states advance together, one character at a time (Thompson, CACM 1968). Understood: literals,
`.`, classes, `\\d \\w \\s` and their opposites, `\\b`, anchors, groups, `|`, `* + ? {m,n}` also lazy, and
`(?i)`. References and look-around are refused: no such engine can do them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from node.sync.refusal import bad_request

MAX_PROGRAM: Final = 2_000
"""Instructions of a pattern with its repetitions written out."""

ITEMS_OF_A_STEP: Final = 8
"""Items of a class that are looked at in the time of a step."""

Accepts = Callable[[str], bool]


class Budget:
    """Steps that a selector, or the patterns in it, may take for all documents of one request together."""

    def __init__(self, steps: int, what: str = "$regex") -> None:
        """Allow so many; `what` is said to need too much when they are used up."""
        self._steps = self._left = steps
        self._what = what

    def spend(self, steps: int) -> None:
        """Take steps; raise a refusal when they are used up."""
        self._left -= steps
        if self._left < 0:
            raise bad_request(f"{self._what} needs too much work: narrow the selector")

    def renew(self) -> None:
        """Allow as many again: another round of a feed is another request, but for the connection."""
        self._left = self._steps


class _Take(msgspec.Struct):
    """Waits for a character. `weight` is what asking `accepts` costs beside its step."""

    accepts: Accepts
    weight: int = 0


class _Fork(msgspec.Struct):
    first: int
    second: int


class _Assert(msgspec.Struct):
    holds: Callable[[str, int], bool]


class _Match(msgspec.Struct):
    pass


_Step = _Take | _Fork | _Assert | _Match


def _word(each: str) -> bool:
    return each.isalnum() or each == "_"


def _boundary(text: str, at: int) -> bool:
    before = at > 0 and _word(text[at - 1])
    after = at < len(text) and _word(text[at])
    return before != after


_CLASSES: Final[dict[str, Accepts]] = {
    "d": lambda each: each in "0123456789",
    "D": lambda each: each not in "0123456789",
    "w": _word,
    "W": lambda each: not _word(each),
    "s": str.isspace,
    "S": lambda each: not each.isspace(),
}
_ASSERTIONS: Final[dict[str, Callable[[str, int], bool]]] = {
    "b": _boundary,
    "B": lambda text, at: not _boundary(text, at),
    "A": lambda _text, at: at == 0,
    "z": lambda text, at: at == len(text),
    "Z": lambda text, at: at == len(text),
}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


class Pattern:
    """A compiled pattern."""

    def __init__(self, source: str, budget: Budget) -> None:
        """Raises a `bad_request` refusal when the pattern is malformed, too large or not understood."""
        self._program = _Parser(source).program()
        self._budget = budget

    def found_in(self, text: str) -> bool:
        """Tell whether the pattern matches somewhere in the text; raises when the budget is used up."""
        active: list[int] = []
        for at in range(len(text) + 1):
            states = self._closure([0, *active], text, at)
            if states is None:
                return True
            active = [
                place + 1
                for place in states
                if at < len(text)
                and isinstance(step := self._program[place], _Take)
                and step.accepts(text[at])
            ]
        return False

    def _closure(self, starts: Sequence[int], text: str, at: int) -> list[int] | None:
        """States that wait for a character, None when the pattern is matched already."""
        seen: set[int] = set()
        waiting, todo = [], list(starts)
        weight = 1
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            match self._program[place]:
                case _Match():
                    return None
                case _Fork(first, second):
                    todo += (second, first)
                case _Assert(holds):
                    if holds(text, at):
                        todo.append(place + 1)
                case _Take(weight=more):
                    weight += more
                    waiting.append(place)
        self._budget.spend(weight + len(seen))
        return waiting


class _Parser:
    """Recursive descent from a pattern to relocatable instructions (`_Fork` holds relative targets)."""

    def __init__(self, source: str) -> None:
        self._fold = source.startswith("(?i)")
        self._source = source[4:] if self._fold else source
        self._at = 0

    def program(self) -> list[_Step]:
        code = self._alternatives(0)
        if self._at < len(self._source):
            raise bad_request("$regex has an unmatched )")
        absolute: list[_Step] = [
            _Fork(place + step.first, place + step.second) if isinstance(step, _Fork) else step
            for place, step in enumerate(code)
        ]
        return [*absolute, _Match()]

    def _peek(self) -> str:
        return self._source[self._at] if self._at < len(self._source) else ""

    def _next(self) -> str:
        each = self._peek()
        if not each:
            raise bad_request("$regex ends too early")
        self._at += 1
        return each

    def _alternatives(self, depth: int) -> list[_Step]:
        if depth > 30:
            raise bad_request("$regex is nested too deep")
        code = self._sequence(depth)
        while self._peek() == "|":
            self._at += 1
            other = self._sequence(depth)
            jump = len(other) + 1
            code = [_Fork(1, len(code) + 2), *code, _Fork(jump, jump), *other]
        return self._bounded(code)

    def _sequence(self, depth: int) -> list[_Step]:
        code: list[_Step] = []
        while self._peek() not in {"", "|", ")"}:
            code += self._repeated(self._atom(depth))
            self._bounded(code)
        return code

    def _bounded(self, code: list[_Step]) -> list[_Step]:
        if len(code) > MAX_PROGRAM:
            raise bad_request("$regex is too large")
        return code

    def _repeated(self, atom: list[_Step]) -> list[_Step]:
        while True:
            match self._peek():
                case "*":
                    low, high = 0, None
                case "+":
                    low, high = 1, None
                case "?":
                    low, high = 0, 1
                case "{" if (bounds := self._bounds()) is not None:
                    low, high = bounds
                    self._at -= 1
                case _:
                    return atom
            self._at += 1
            if self._peek() == "?":
                self._at += 1
            atom = self._copies(atom, low, high)

    def _bounds(self) -> tuple[int, int | None] | None:
        """Read `{m}`, `{m,}` or `{m,n}`; None when the brace is an ordinary character."""
        end = self._source.find("}", self._at)
        low, comma, high = self._source[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        numeric = low.isdecimal() and (not high or high.isdecimal()) and len(low + high) < 9
        if not numeric:
            return None
        self._at = end + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if most is not None and most < least:
            raise bad_request("$regex has a repetition with its bounds turned round")
        return least, most

    def _copies(self, atom: list[_Step], low: int, high: int | None) -> list[_Step]:
        times = low + 1 if high is None else high
        if times * (len(atom) + 2) > MAX_PROGRAM:
            raise bad_request("$regex is too large")
        code = atom * low
        if high is None:
            # fork: into the atom, or past it and the jump back
            return [*code, _Fork(1, len(atom) + 2), *atom, _Fork(-len(atom) - 1, -len(atom) - 1)]
        for _ in range(high - low):
            code = [*code, _Fork(1, len(atom) + 1), *atom]
        return code

    def _atom(self, depth: int) -> list[_Step]:
        each = self._next()
        match each:
            case "(":
                return self._group(depth)
            case "[":
                return [self._class()]
            case ".":
                return [_Take(lambda found: found != "\n")]
            case "^":
                return [_Assert(lambda _text, at: at == 0)]
            case "$":
                return [_Assert(lambda text, at: at == len(text))]
            case "\\":
                return [self._escape()]
            case "*" | "+" | "?":
                raise bad_request("$regex repeats nothing")
            case _:
                return [_Take(self._literal(each))]

    def _literal(self, each: str) -> Accepts:
        if not self._fold:
            return each.__eq__
        folded = each.casefold()
        return lambda found: found.casefold() == folded

    def _group(self, depth: int) -> list[_Step]:
        if self._peek() == "?":
            self._at += 1
            if self._next() != ":":
                raise bad_request("$regex: look-around and named groups are not supported")
        code = self._alternatives(depth + 1)
        if self._peek() != ")":
            raise bad_request("$regex has an unmatched (")
        self._at += 1
        return code

    def _escape(self) -> _Step:
        each = self._next()
        if each in _ASSERTIONS:
            return _Assert(_ASSERTIONS[each])
        if each in _CLASSES:
            return _Take(_CLASSES[each])
        return _Take(self._literal(self._escaped(each)))

    def _escaped(self, each: str) -> str:
        if each in _CONTROLS:
            return _CONTROLS[each]
        if each in {"x", "u"}:
            digits = self._source[self._at : self._at + (2 if each == "x" else 4)]
            self._at += len(digits)
            try:
                return chr(int(digits, 16))
            except ValueError:
                raise bad_request("$regex has a malformed escape") from None
        if each.isalnum():
            raise bad_request(f"$regex: \\{each} is not supported")
        return each

    def _class(self) -> _Take:
        negated = self._peek() == "^"
        self._at += negated
        tests: list[Accepts] = []
        first = True
        while first or self._peek() != "]":
            first = False
            tests.append(self._class_item())
        self._at += 1

        def accepts(found: str) -> bool:
            return any(test(found) for test in tests) != negated

        return _Take(accepts, len(tests) // ITEMS_OF_A_STEP)

    def _class_item(self) -> Accepts:
        each = self._next()
        if each == "\\":
            each = self._next()
            if each in _CLASSES:
                return _CLASSES[each]
            each = self._escaped(each) if each != "b" else "\b"
        if self._peek() != "-" or self._source[self._at + 1 : self._at + 2] in {"", "]"}:
            return self._literal(each)
        self._at += 1
        upper = self._next()
        upper = self._escaped(self._next()) if upper == "\\" else upper
        if upper < each:
            raise bad_request("$regex has a range turned round")
        if not self._fold:
            return lambda found: each <= found <= upper
        return lambda found: any(each <= way <= upper for way in (found, found.lower(), found.upper()))
