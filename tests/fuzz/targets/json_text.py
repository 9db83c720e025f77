"""Invariant: JSON text is refused, or read into a value whose canonical form reads back as the same value."""

from __future__ import annotations

from events.errors import MailioError
from node.sync.incoming import incoming
from node.sync.json_text import canonical, parsed, written
from node.sync.limits import SyncLimits

LIMITS = SyncLimits(json_depth=20, document_bytes=10_000)
SEEDS = [
    b'{"a":[1,-0,1.50,1e2,true,null,"\\u00e4\\ud83d\\ude00"],"b":{}}',
    b'{"_id":"x","_rev":"1-a","_revisions":{"start":1,"ids":["a"]},"_deleted":false}',
    b'{"_attachments":{"f":{"content_type":"text/plain","data":"aGk="},"g":{"stub":true,"digest":"md5-x"}}}',
    b'{"a":"\\ud800"}',
    b'{"a":1,"a":2}',
    b"[" * 30,
    b"1e400",
]


def one(data: bytes) -> None:
    try:
        value = parsed(data, LIMITS.json_depth)
        text = canonical(value)
    except MailioError as refused:
        assert refused.public
        return
    assert parsed(text, LIMITS.json_depth) == value
    assert canonical(parsed(text, LIMITS.json_depth)) == text
    assert parsed(written(value), LIMITS.json_depth) == value
    try:
        document = incoming(value, "id", LIMITS)
    except MailioError as refused:
        assert refused.public
        return
    assert not document.path or not document.rev or document.path[0] == document.rev
    assert parsed(document.body, LIMITS.json_depth) == document.members
