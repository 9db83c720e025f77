"""Invariant: a selector is refused, or tests any document within its budget; it never fails otherwise."""

from __future__ import annotations

import json

from events.errors import MailioError
from node.sync.json_text import parsed
from node.sync.limits import SyncLimits
from node.sync.selector import compiled

LIMITS = SyncLimits(regex_steps=5_000)
DOCUMENTS = [
    {},
    {"a": 1, "b": "text", "c": [1, "x", {"d": None}], "e": {"f": {"g": True}}, "_id": "x"},
    {"a": "a" * 50 + "!", "b": [[], [[1]]], "c": 1.5, "e": "ü"},
]
SEEDS = [
    json.dumps(selector).encode()
    for selector in (
        {"a": 1, "b": {"$regex": "^(a|b)*c{2,3}\\b[^x-z]?$"}},
        {"$or": [{"a": {"$gt": 1, "$lt": [1]}}, {"$not": {"e.f.g": {"$exists": True}}}]},
        {"c": {"$elemMatch": {"$in": [1, None]}, "$allMatch": {"$gte": 0}, "$size": 3, "$all": ["x"]}},
        {"a": {"$mod": [2, 1]}, "b": {"$type": "string"}, "$nor": [{"c": {"$nin": []}}], "e": {"$ne": {}}},
        {"a\\.b": {"$beginsWith": "x"}, "$text": "x", "": {"$eq": ""}},
    )
]


def one(data: bytes) -> None:
    try:
        selector = compiled(parsed(data, LIMITS.json_depth), LIMITS)
    except MailioError as refused:
        assert refused.public
        return
    for document in DOCUMENTS:
        try:
            assert selector.matches(document) in {True, False}
        except MailioError as refused:
            assert "too much work" in refused.public
            return
