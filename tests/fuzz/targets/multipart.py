"""Invariant: a multipart body is refused, or cut into parts that are all in it, in order and without overlap."""

from __future__ import annotations

from events.errors import MailioError
from node.sync.multipart import Part, boundary_of, joined, parts

SEEDS = [
    b"b\n" + joined([Part("application/json", b'{"_id":"a"}'), Part("text/plain", b"x\r\n--c")], "b"),
    b"b\n--b\r\n\r\n\r\n--b--",
    b"b\n--b \t\r\nContent-Disposition: attachment; filename*=utf-8''%0d%0a\r\n\r\nx\r\n--b--\r\nepilogue",
    b"\n----\r\n\r\n--",
]


def one(data: bytes) -> None:
    name, _, body = data.partition(b"\n")
    try:
        boundary = boundary_of(f'multipart/related; boundary="{name.decode("latin-1")}"')
        found = parts(body, boundary)
    except MailioError as refused:
        assert refused.public
        return
    place = 0
    for part in found:
        place = body.find(part.content, place)
        assert place >= 0
        place += len(part.content)
    assert sum(len(part.content) for part in found) <= len(body)
