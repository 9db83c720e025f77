"""CBOR as Mailio signs it: an encoder in Go's default mode, a bounded decoder, equality with JSON.

Wire spec section 1.7: maps in declaration order, shortest heads for integers, floats always nine
bytes. Peers and browsers write other definite forms, hence signed bytes are never re-encoded: they
are verified as received, decoded, and compared with the JSON beside them (section 10.3, S1).

What a signature may cover is data, so the decoder refuses everything else CBOR has: tags,
indefinite lengths, keys that are not text, keys that occur twice, simple values beyond the usual.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import cbor2

from events.errors import InvalidInput, LimitExceeded

MAX_BYTES: Final = 32 << 20
"""Bytes of one CBOR value unless the caller says otherwise: a message with inline attachments."""

MAX_DEPTH: Final = 16
"""Levels of nesting. A DID lookup reply, the deepest value on the wire, has 7."""

MAX_ITEMS: Final = 100_000
"""Values in one CBOR value, keys included."""

_INT_MIN = -(1 << 63)
_INT_MAX = (1 << 64) - 1

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_LENGTH_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_PLAIN_SIMPLE = frozenset({20, 21, 22, 23, 25, 26, 27})


def encode(value: object) -> bytes:
    """Encode JSON-like data in member order. Raises InvalidInput for anything else (NaN included)."""
    _require_json_like(value, MAX_DEPTH)
    return cbor2.dumps(value)


def _require_json_like(value: object, depth: int) -> None:
    if depth <= 0:
        raise InvalidInput("can't encode as CBOR", "nested too deeply")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput("can't encode as CBOR", "a key is not text")
        _require_members(value.values(), depth - 1)
    elif isinstance(value, list | tuple):
        _require_members(value, depth - 1)
    elif not _is_scalar(value):
        raise InvalidInput("can't encode as CBOR", f"no form for a {type(value).__name__}")


def _require_members(members: Collection[object], depth: int) -> None:
    """Look at each member that is more than a text: most of what is on the wire is none."""
    for member in members:
        if type(member) is not str or depth <= 0:
            _require_json_like(member, depth)


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return _INT_MIN <= value <= _INT_MAX
    if isinstance(value, float):
        return value - value == 0  # neither NaN nor infinite
    return value is None or isinstance(value, str | bytes)


def decode(data: bytes, *, limit: int = MAX_BYTES, depth: int = MAX_DEPTH, items: int = MAX_ITEMS) -> Any:
    """Decode one definite CBOR value of plain data.

    Raises LimitExceeded beyond `limit` bytes, `depth` levels or `items` values (before anything is
    allocated for them), InvalidInput when it is malformed or holds what signed data may not hold.
    """
    if len(data) > limit:
        raise LimitExceeded("CBOR too large", f"{len(data)} bytes, limit {limit}")
    _inspect(data, depth, items)
    try:
        return cbor2.loads(
            data,
            max_depth=depth + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput("malformed CBOR", str(error)[:200]) from None


def _inspect(data: bytes, depth: int, items: int) -> None:
    """Walk over the heads alone, so that no bound depends on what the library does first."""
    position = 0
    open_counts = [1]  # values still due on each level; the map flag stands beside it
    open_maps = [False]
    while open_counts:
        if open_counts[-1] == 0:
            open_counts.pop()
            open_maps.pop()
            continue
        items -= 1
        if items < 0:
            raise LimitExceeded("CBOR has too many items")
        major, argument, position = _head(data, position)
        if open_maps[-1] and open_counts[-1] % 2 == 0 and major != _TEXT:
            raise InvalidInput("malformed CBOR", "a map key is not text")
        open_counts[-1] -= 1
        if major in (_BYTES, _TEXT):
            position = _skip(data, position, argument)
        elif major in (_ARRAY, _MAP):
            count = argument * 2 if major == _MAP else argument
            if len(open_counts) > depth:
                raise LimitExceeded("CBOR nested too deeply")
            _require_room(data, position, count)
            open_counts.append(count)
            open_maps.append(major == _MAP)
    if position != len(data):
        raise InvalidInput("malformed CBOR", "bytes after the value")


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    """Read one head (RFC 8949 section 3); return major type, argument, and where its content begins."""
    _require_room(data, position, 1)
    major, info = data[position] >> 5, data[position] & 31
    if major == _TAG or (major == _SIMPLE and info not in _PLAIN_SIMPLE):
        raise InvalidInput("malformed CBOR", "a tag or a simple value that signed data may not hold")
    if info < 24:
        return major, info, position + 1
    width = _LENGTH_BYTES.get(info)
    if width is None:
        raise InvalidInput("malformed CBOR", "indefinite or reserved length")
    _require_room(data, position + 1, width)
    end = position + 1 + width
    return major, int.from_bytes(data[position + 1 : end], "big"), end


def _skip(data: bytes, position: int, length: int) -> int:
    _require_room(data, position, length)
    return position + length


def _require_room(data: bytes, position: int, length: int) -> None:
    """Every declared item takes at least a byte, so no honest length exceeds what is left."""
    if length > len(data) - position:
        raise InvalidInput("malformed CBOR", "ends too early, or declares more than it holds")


def equal_to_json(cbor_value: object, json_value: object, *, lossy_did_documents: bool = False) -> bool:
    """Whether decoded CBOR and decoded JSON say the same (wire spec section 10.3, S1).

    Numbers compare by value (Q2), order is free, a member that is empty (null, "", 0, false, [])
    equals an absent one. With `lossy_did_documents` the two members that a Go server's CBOR of a
    DID document loses are passed over (Q4): its `id` and `publicKeyJwk` are then not covered.
    """
    return next(differences(cbor_value, json_value, lossy_did_documents=lossy_did_documents), None) is None


def differences(
    cbor_value: object, json_value: object, *, lossy_did_documents: bool = False, path: str = ""
) -> Iterator[str]:
    """Name the members (dotted paths) in which the two differ, for the operator's log."""
    if isinstance(cbor_value, dict) and isinstance(json_value, dict):
        for name in dict.fromkeys([*cbor_value, *json_value]):
            ours, theirs = cbor_value.get(name), json_value.get(name)
            below = f"{path}.{name}" if path else str(name)
            if not (lossy_did_documents and _lost_by_go(below, ours)):
                yield from differences(ours, theirs, lossy_did_documents=lossy_did_documents, path=below)
    elif isinstance(cbor_value, list) and isinstance(json_value, list):
        if len(cbor_value) != len(json_value):
            yield path
        for index, (ours, theirs) in enumerate(zip(cbor_value, json_value, strict=False)):
            below = f"{path}.{index}"
            yield from differences(ours, theirs, lossy_did_documents=lossy_did_documents, path=below)
    elif not _same(cbor_value, json_value):
        yield path


def _same(ours: object, theirs: object) -> bool:
    if _is_null(ours) or _is_null(theirs):
        return _is_empty(ours) and _is_empty(theirs)
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return ours == theirs
    return type(ours) is type(theirs) and ours == theirs


def _is_null(value: object) -> bool:
    return value is None or value is cbor2.undefined


def _is_empty(value: object) -> bool:
    return _is_null(value) or (isinstance(value, str | int | float | list) and not value)


def _lost_by_go(path: str, value: object) -> bool:
    *parents, name = path.split(".")
    if "didDocument" not in parents:
        return False
    return (name == "id" and parents[-1] == "didDocument" and value == {}) or (
        name == "publicKeyJwk" and value == {"Key": {}}
    )
