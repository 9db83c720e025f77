"""Hypothesis strategies made from the types themselves: a new type or member is covered without a word."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from events.event import Event, Metadata
from tests.golden.record import domain_types

texts = st.text(max_size=12)
idents = st.binary(min_size=16, max_size=16).map(bytes.hex)
metadata = st.builds(
    Metadata,
    id=idents,
    at=st.integers(0, 2**53),
    actor=texts,
    correlation=idents,
    causation=st.just("") | idents,
    software=texts,
)

_PLAIN: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.BoolType: st.booleans(),
    inspect.BytesType: st.binary(max_size=12),
    inspect.NoneType: st.none(),
    inspect.StrType: texts,
    inspect.IntType: st.integers(-(2**63), 2**63 - 1),
    inspect.FloatType: st.floats(allow_nan=False),
}


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """All values of a type that msgspec knows."""
    match kind:
        case inspect.StructType():
            required = {field.name: values(field.type) for field in kind.fields if field.required}
            optional = {field.name: values(field.type) for field in kind.fields if not field.required}
            return st.fixed_dictionaries(required, optional=optional).map(lambda members: kind.cls(**members))
        case inspect.UnionType():
            return st.one_of([values(one) for one in kind.types])
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), max_size=3).map(tuple)
        case inspect.ListType():
            return st.lists(values(kind.item_type), max_size=3)
        case inspect.SetType() | inspect.FrozenSetType():
            return st.frozensets(values(kind.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=3)
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case _:
            return _PLAIN[type(kind)]


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    """All events of one type."""
    return values(inspect.type_info(kind))


EVENT_TYPES = domain_types()
"""Every event type of the domain."""

any_event = st.sampled_from(EVENT_TYPES).flatmap(events)
