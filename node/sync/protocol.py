"""The sync door: the CouchDB replication protocol at `/userdb-<hex>`, for PouchDB and its relatives.

Who asks reaches exactly one database. Every other name, whether it exists or not, gets one and the same
answer, and so does a request without identity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import structlog
from aiohttp import web

from events.errors import MailioError
from events.identity import userdb_name
from node.sync.call import Call, HeadAnswered, Room, json_answer, peer_of
from node.sync.database import Database
from node.sync.feeds import Feeds
from node.sync.intake import ClientWrites
from node.sync.limits import SyncLimits
from node.sync.numbering import Numbering
from node.sync.ports import Authenticate, Blobs, Identity
from node.sync.refusal import Refusal, forbidden, refusal_of
from node.sync.routes import Handler, handler_of, segments
from node.sync.superseded import Superseded
from projections.stores.embedded import EmbeddedStore

COUCHDB_VERSION: Final = "3.3.3"
"""The version of CouchDB whose answers this door gives; some clients look at it."""

METHODS: Final = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = (
    "Accept, Authorization, Content-Type, Content-Length, If-Match, If-None-Match, Last-Event-ID, Origin, "
    "Range"
)
_EXPOSED: Final = "Content-Length, Content-Range, Content-Type, ETag, Location, Set-Cookie"
_PREFLIGHT_SECONDS: Final = "2592000"
"""Thirty days (wire spec section 7.3)."""

_log = structlog.get_logger("sync")


class SyncDoor:
    """Everything the door needs, and what it keeps while it is open."""

    def __init__(
        self,
        store: EmbeddedStore,
        blobs: Blobs,
        authenticate: Authenticate,
        writes: ClientWrites,
        limits: SyncLimits,
        *,
        origins: Collection[str] = (),
        node_id: str = "",
        version: str = "",
        client_of: Callable[[web.Request], str] = peer_of,
        is_secure: Callable[[web.Request], bool] = lambda request: request.secure,
        numbering: Numbering | None = None,
    ) -> None:
        """`store` holds the view `userdb`; `origins` are the web origins that may call (wire spec 7.3).

        `client_of` names the client of a request, for the log; `is_secure` tells whether it came by TLS.
        """
        self._is_secure = is_secure
        self._numbering = numbering or Numbering()
        self._store = store
        self._authenticate = authenticate
        self._writes = writes
        self._limits = limits
        self._origins = frozenset(origins)
        self._node_id = node_id
        self._version = version
        self.feeds = Feeds(limits)
        self._superseded = Superseded(limits.superseded_bytes)
        self._room = Room(blobs=blobs, writes=writes, feeds=self.feeds, limits=limits, client_of=client_of)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request to a database."""
        raw_database, _, raw_tail = request.rel_url.raw_path.removeprefix("/").partition("/")
        headers = self._cors(request)
        try:
            self._require_origin(request, headers)
            if request.method == "OPTIONS":
                return _preflight(headers)
            identity = await self._authenticate(request)
            database = self._own(identity, raw_database)
            path = segments(raw_tail) if raw_tail else ()
            call = Call(request, identity.address, path, database=database, room=self._room, headers=headers)
            return await _carried_out(call, handler_of(path, request.method))
        except MailioError as error:
            return _refused(request, error, headers)

    def _own(self, identity: Identity, name: str) -> Database:
        if name != userdb_name(identity.address):
            raise forbidden(
                "You are not allowed to access this db.", f"{identity.address} asked for {name[:120]}"
            )
        return Database(self._store, name, self._limits, self._superseded, self._numbering)

    # Other origins

    def _cors(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get("Origin", "")
        if origin not in self._origins:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def _require_origin(self, request: web.Request, headers: dict[str, str]) -> None:
        """Refuse a page of an origin that nobody allowed: it may carry the user's cookie."""
        origin = request.headers.get("Origin")
        if origin is None or "Access-Control-Allow-Origin" in headers:
            return
        scheme, _, host = origin.partition("://")
        # Where TLS is spoken, a page of the same name without it may be anybody's on the way.
        if host != request.host or (scheme != "https" and self._is_secure(request)):
            raise forbidden("this origin is not allowed", origin[:200])

    # Beside the databases

    async def welcome(self, request: web.Request) -> web.Response:
        """`GET /` as CouchDB answers it. PouchDB keeps its checkpoints under a name made of `uuid`."""
        return json_answer(
            {
                "couchdb": "Welcome",
                "version": COUCHDB_VERSION,
                "uuid": self._numbering.instance(self._node_id),
                "vendor": {"name": "Mailio node", "version": self._version},
            },
            200,
            self._cors(request),
        )

    async def up(self, request: web.Request) -> web.Response:
        """`GET /_up`."""
        return json_answer({"status": "ok"}, 200, self._cors(request))

    async def session(self, request: web.Request) -> web.Response:
        """`GET /_session`: who the request speaks for."""
        headers = self._cors(request)
        try:
            self._require_origin(request, headers)
            identity = await self._authenticate(request)
        except MailioError as error:
            return _refused(request, error, headers)
        context = {"name": identity.address, "roles": []}
        return json_answer({"ok": True, "userCtx": context, "info": {}}, 200, headers)

    async def close(self) -> None:
        """End the feeds and let writes finish."""
        self.feeds.close()
        await self._writes.drain()


async def _carried_out(call: Call, handler: Handler) -> web.StreamResponse:
    """Answer a call. What fails after an answer has begun ends the connection: half of it is no answer."""
    try:
        return await handler(call)
    except HeadAnswered:
        return call.streaming or web.Response()
    except ConnectionResetError:
        # The client went away, as clients do; nobody reads this.
        return call.streaming or web.Response()
    except MailioError as error:
        if call.streaming is None:
            raise
        _report(call.request, refusal_of(error))
        if call.request.transport is not None:
            call.request.transport.close()
        return call.streaming


def _preflight(headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=204,
        headers={
            **headers,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": _REQUEST_HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )


def _report(request: web.Request, refusal: Refusal) -> None:
    path = request.rel_url.raw_path[:200]
    _log.error("not answered", method=request.method, path=path, status=refusal.status, error=str(refusal))


def _refused(request: web.Request, error: MailioError, headers: dict[str, str]) -> web.Response:
    refusal = refusal_of(error)
    if refusal.status in {500, 503}:
        _report(request, refusal)
    extra = {"Retry-After": "5"} if refusal.status in {429, 503} else {}
    if refusal.status == 401:
        extra["WWW-Authenticate"] = 'Basic realm="mailio"'
    return json_answer(refusal.row, refusal.status, {**headers, **extra, "Cache-Control": "must-revalidate"})


def add_sync_routes(app: web.Application, door: SyncDoor) -> None:
    """Serve `/userdb-…`, `/_session` and `/_up` in an application, and close the door when it shuts down."""
    app.router.add_route("*", "/{database:userdb-[^/]*}", door.answer)
    app.router.add_route("*", "/{database:userdb-[^/]*}/{path:[\\s\\S]*}", door.answer)
    app.router.add_get("/_session", door.session)
    app.router.add_get("/_up", door.up)

    async def close(_: web.Application) -> None:
        await door.close()

    app.on_shutdown.append(close)


def add_welcome_route(app: web.Application, door: SyncDoor) -> None:
    """Serve CouchDB's `/`, where nothing else answers there."""
    app.router.add_get("/", door.welcome)
