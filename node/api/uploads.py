"""Uploads and downloads by links that need no token, as from an object store (wire spec section 6.5).

A link names one object of one user, one method and an end, and is sealed by the node's own key: nobody can
make one, or make another of it. It holds to its end across restarts and a change of keys, as long as the key
that sealed it is a live one; a stolen key takes its links along. The names that clients give are hashed and
never used.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from events.errors import Forbidden, InvalidInput
from node.api.request_data import Text, read_file
from node.api.route import Auth, Call, Route
from node.core import Core
from node.crypto.keys import SigningKeys
from node.sync.uploads import OBJECTS, is_key

LINK_MS: Final = 1_800_000
"""How long a link holds: half an hour, as was meant (wire spec section 10.2, D18)."""

UPLOAD_BYTES: Final = 16_777_216
"""Largest upload: what all attachments of one message may have together."""

OCTETS: Final = "application/octet-stream"

CONTENT_TYPES: Final = frozenset(
    (OCTETS, "image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf", "text/plain")
)
"""Types that are kept; every other becomes octets. No browser runs anything of these."""


class PresignQuery(msgspec.Struct, frozen=True, rename="camel"):
    """A name of the client's for the object (put), or its key (get)."""

    object_key: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
    method: Literal["put", "get"] = "put"


class Link(msgspec.Struct, frozen=True):
    """Where to send a request with the method that was asked for."""

    url: str


class LinkQuery(msgspec.Struct, frozen=True):
    """What makes a link valid: its end (ms) and its seal."""

    expires: int
    signature: Text


class DeleteRequest(msgspec.Struct, frozen=True):
    """Keys of own objects."""

    values: Annotated[list[Text], msgspec.Meta(max_length=100)]


def object_key(name: str, at: int) -> str:
    """Return the key of an upload: a digest of the client's name for it, and the time (wire spec 6.5)."""
    digest = hashlib.md5(name.lower().encode(errors="replace"), usedforsecurity=False).hexdigest()
    return f"{digest}_{datetime.fromtimestamp(at / 1000, UTC):%Y%m%dt%H%M%S}"


def link_seal(signer: SigningKeys, method: str, address: str, key: str, expires: int) -> str:
    """Seal a link: its secret is a signature that nobody but the node can make, and which is never shown."""
    secret = hashlib.sha256(b"object links\0" + signer.sign(b"object links")).digest()
    text = f"{method}\n{address}\n{key}\n{expires}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


class UploadRoutes:
    """Routes of objects."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def routes(self) -> list[Route]:
        """Declare the routes."""
        path = OBJECTS + "{address}/{key}"
        return [
            Route(
                method="GET",
                path="/api/v1/s3presign",
                summary="A link for one upload or download",
                tag="attachments",
                handler=self.presign,
                query=PresignQuery,
                answer=Link,
                auth=Auth.TOKEN,
            ),
            Route(
                method="PUT",
                path=path,
                summary="Upload to a link",
                tag="attachments",
                handler=self.put,
                query=LinkQuery,
                answer=Link,
                refusals=(408, 413, 415, 507),
            ),
            Route(
                method="GET",
                path=path,
                summary="Download from a link",
                tag="attachments",
                handler=self.get,
                query=LinkQuery,
                answer=bytes,
                content_type=OCTETS,
            ),
            Route(
                method="DELETE",
                path="/api/v1/s3",
                summary="Delete own uploads",
                tag="attachments",
                handler=self.delete,
                body=DeleteRequest,
                answer=list[Link],
                auth=Auth.TOKEN,
            ),
        ]

    async def presign(self, call: Call[PresignQuery, None]) -> Link:
        """Make a link."""
        now, query = self._core.clock.now(), call.query
        key = object_key(query.object_key, now)
        if query.method == "get":
            key = query.object_key.rpartition("/")[2]
            if not is_key(key):
                raise InvalidInput("invalid objectKey")
        expires = now + LINK_MS
        seal = link_seal(self._core.keys, query.method, call.address, key, expires)
        place = f"{OBJECTS}{call.address}/{key}?expires={expires}&signature={seal}"
        return Link(f"{self._origin(call.request)}{place}")

    def _origin(self, request: web.Request) -> str:
        domain = self._core.settings.node.server_domain
        # Without a name of its own, the node is where the client has found it.
        return f"{request.scheme}://{request.host}" if domain == "localhost" else f"https://{domain}"

    def _admit(self, call: Call[LinkQuery, None], method: str) -> tuple[str, str]:
        """Return owner and key of a link that holds. Raises Forbidden, the same for every reason."""
        address, key, query = call.path("address").lower(), call.path("key"), call.query
        shown = query.signature.encode(errors="replace")
        good = any(
            hmac.compare_digest(link_seal(one, method, address, key, query.expires).encode(), shown)
            for one in self._core.keys.signers
        )
        if not good or query.expires < self._core.clock.now() or not is_key(key):
            raise Forbidden("the link does not hold")
        return address, key

    async def put(self, call: Call[LinkQuery, None]) -> Link:
        """Store what is sent. Raises Forbidden, UnsupportedMediaType, TooSlow, LimitExceeded, MailboxFull."""
        address, key = self._admit(call, "put")
        content = await read_file(call.request, UPLOAD_BYTES)
        stated = call.request.content_type
        kind = stated if stated in CONTENT_TYPES else OCTETS
        await self._core.federation.uploads.store(address, key, content, kind)
        return Link(f"{self._origin(call.request)}{OBJECTS}{address}/{key}")

    async def get(self, call: Call[LinkQuery, None]) -> web.Response:
        """Give it back, never as something that a browser would run."""
        address, key = self._admit(call, "get")
        content = await self._core.federation.uploads.read(address, f"{OBJECTS}{address}/{key}")
        headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=content, content_type=OCTETS, headers=headers)

    async def delete(self, call: Call[None, DeleteRequest]) -> list[Link]:
        """Delete; what is not there is passed over."""
        for value in call.body.values:
            await self._core.federation.uploads.forget(call.address, value, call.origin)
        return [Link(f"{call.address}/{value.rpartition('/')[2]}") for value in call.body.values]
