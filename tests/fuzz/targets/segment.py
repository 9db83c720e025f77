"""Invariant: a walk over any segment file covers it without gap or overlap, and what it calls sound is."""

from __future__ import annotations

import hashlib
import os
from itertools import pairwise

from node.storage.segments import HEADER_SIZE, Kind, header, walk


def _record(body: bytes) -> bytes:
    return header(hashlib.sha256(body).digest(), len(body)) + body


SEEDS = [
    _record(b"one") + _record(b"") + _record(b"three" * 20),
    _record(b"one") + b"garbage" + _record(b"two") + _record(b"torn")[:-2],
    _record(_record(b"a record inside a record")),
    header(bytes(32), 2**63) + b"MBL1MBL1",
    b"MBL1",
]


def one(data: bytes) -> None:
    fd = os.memfd_create("segment")
    try:
        os.write(fd, data)
        for check in (True, False):
            spans = list(walk(fd, check=check))
            assert [span.offset for span in spans[:1]] == [0] * bool(data)
            assert all(left.end == right.offset for left, right in pairwise(spans))
            assert (spans[-1].end if spans else 0) == len(data)
            for span in spans:
                if check and span.kind is Kind.SOUND:
                    body = data[span.offset + HEADER_SIZE : span.end]
                    assert hashlib.sha256(body).digest() == span.digest
    finally:
        os.close(fd)
