"""Changes to write into view stores, and blobs in memory for their attachments."""

from __future__ import annotations

import base64
import hashlib

import msgspec

from projections.revision import computed
from projections.view_store import Attachment, Change

DATABASE = "userdb-61"


class MemoryBlobs:
    """Attachment bytes by name."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def attachment(
        self, name: str, data: bytes, content_type: str = "application/octet-stream"
    ) -> Attachment:
        """Keep the bytes; give the descriptor of a file with them."""
        self.content[f"blob-{name}"] = data
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return Attachment(
            name=name,
            content_type=content_type,
            length=len(data),
            digest=f"md5-{digest}",
            blob=f"blob-{name}",
            revpos=1,
        )

    async def read(self, name: str) -> bytes:
        return self.content[name]


def change(
    id: str,  # noqa: A002
    seq: int,
    *parents: str,
    database: str = DATABASE,
    deleted: bool = False,
    rev: str | None = None,
    attachments: tuple[Attachment, ...] = (),
    **members: object,
) -> Change:
    """A change with these members in its body, on top of a path of parents (newest first)."""
    body = msgspec.json.encode(members, order="sorted")
    own = rev or computed(parents[0] if parents else None, deleted, body, attachments)
    return Change(
        database=database,
        id=id,
        seq=seq,
        revisions=(own, *parents),
        body=body,
        deleted=deleted,
        attachments=attachments,
    )
