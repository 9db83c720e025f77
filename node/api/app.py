"""The HTTP door: the client API, the pages, and the sync door behind one address.

Around every request, from the outside in: counting, failures put into words, origins, the route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.log import server_logger
from aiohttp.typedefs import Middleware

from node.api.accounts import AccountRoutes
from node.api.authentication import Authentication
from node.api.clients import Clients
from node.api.cookies import TokenCookie
from node.api.cors import Cors
from node.api.credentials import CredentialRoutes
from node.api.endpoint import Gate, add_routes
from node.api.failures import BEGUN, Next, answered, is_own_fault
from node.api.federation import FederationRoutes
from node.api.folders import FolderRoutes
from node.api.health import HealthRoutes
from node.api.identity import Identity
from node.api.mailboxes import Mailboxes, OwnerKeys, UserVisibility
from node.api.messages import MessageRoutes
from node.api.metrics import Metrics, Traffic
from node.api.offers import OfferRoutes
from node.api.openapi import document
from node.api.pages import Pages
from node.api.passkeys import PasskeyRoutes
from node.api.profile import ProfileRoutes
from node.api.rate import Cost, Limits
from node.api.resolving import ResolvingRoutes
from node.api.route import Route
from node.api.sending import SendingRoutes
from node.api.statistics import StatisticsRoutes
from node.api.uploads import UploadRoutes
from node.core import SOFTWARE, Core
from node.rate import Rate
from node.smtp.door import SmtpDoor
from node.sync.handshakes import SignedHandshakes
from node.sync.intake import ClientWrites
from node.sync.numbering import Numbering
from node.sync.protocol import SyncDoor, add_sync_routes

SYNC_PREFIX: Final = "/userdb-"
"""Paths below are the sync door's, which answers in CouchDB's words, its own refusals included."""

MAX_HEADER_BYTES: Final = 65_536
"""Request line and single header field: CouchDB clients put lists of revisions and long ids into URLs."""

SERVER: Final[Mapping[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "max_line_size": MAX_HEADER_BYTES,
    "max_field_size": MAX_HEADER_BYTES,
}
"""How a server has to be run for this application. The sync door unpacks bodies itself, within bounds."""

ROUTES: Final = web.AppKey("routes", list[Route])
"""The table of routes that an application serves."""


def build_app(core: Core, smtp: SmtpDoor) -> web.Application:
    """Build the application. Raises Misconfigured."""
    settings = core.settings
    clients = Clients(settings.http.trusted_proxies)
    peers = Rate(settings.mtp.address_requests_per_second, settings.mtp.address_request_burst)
    limits = Limits(settings.http, core.clock, peers)
    authentication = Authentication(core.accounts, limits, clients)
    cors, traffic = Cors(settings.http.origins, clients), Traffic()
    door = _sync_door(core, authentication, clients)
    pages = Pages(settings.node.server_domain, door.welcome)
    routes = [
        *_routes(core, Metrics(core, smtp, traffic)),
        *FederationRoutes(core, clients).routes(),
        *pages.routes(),
    ]
    pages.describe(routes, msgspec.json.encode(document(routes, settings.node.server_domain)))
    gate = Gate(authentication, limits, clients, settings.http.body_bytes)
    app = web.Application(
        middlewares=_middlewares(cors, traffic, gate), client_max_size=settings.http.body_bytes
    )
    server_logger.addFilter(is_own_fault)
    app[ROUTES] = routes
    app.on_response_prepare.append(_Finish(cors).prepare)
    add_routes(app, routes, gate)
    add_sync_routes(app, door)
    return app


def _routes(core: Core, metrics: Metrics) -> Sequence[Route]:
    cookie, mailboxes = TokenCookie(core.settings.node.server_domain), Mailboxes(core)
    return [
        *Identity(core).routes(),
        *AccountRoutes(core, cookie).routes(),
        *PasskeyRoutes(core, cookie).routes(),
        *ProfileRoutes(core, mailboxes).routes(),
        *CredentialRoutes(core).routes(),
        *StatisticsRoutes(core, mailboxes).routes(),
        *ResolvingRoutes(core).routes(),
        *FolderRoutes(core, mailboxes).routes(),
        *MessageRoutes(core).routes(),
        *OfferRoutes(core).routes(),
        *SendingRoutes(core).routes(),
        *UploadRoutes(core).routes(),
        *HealthRoutes(core, metrics).routes(),
    ]


def _sync_door(core: Core, authentication: Authentication, clients: Clients) -> SyncDoor:
    settings = core.settings
    writes = ClientWrites(
        Mailboxes(core),
        UserVisibility(core),
        core.blobs,
        SignedHandshakes(OwnerKeys(core.directory).of),
        clock=core.clock,
        limits=settings.sync,
        quota=settings.node.quota_bytes,
    )
    return SyncDoor(
        core.views.stores["userdb"],
        core.blobs,
        authentication.identity,
        writes,
        settings.sync,
        origins=settings.http.origins,
        # Clients keep their checkpoints under this name: the same node must always say the same.
        node_id=core.keys.origin,
        version=SOFTWARE.partition("/")[2],
        client_of=clients.key,
        is_secure=clients.is_secure,
        numbering=Numbering(lambda: core.restorations, lambda: core.log.head),
    )


def _middlewares(cors: Cors, traffic: Traffic, gate: Gate) -> Sequence[Middleware]:
    @web.middleware
    async def count(request: web.Request, handler: Next) -> web.StreamResponse:
        return await traffic.counted(request, handler)

    @web.middleware
    async def put_into_words(request: web.Request, handler: Next) -> web.StreamResponse:
        return await answered(request, handler)

    @web.middleware
    async def admit(request: web.Request, handler: Next) -> web.StreamResponse:
        if request.path.startswith(SYNC_PREFIX):
            return await handler(request)
        if (preflight := cors.preflight(request)) is not None:
            return preflight
        if request.match_info.http_exception is not None:
            gate.limits.by_client[Cost.ORDINARY].take(gate.clients.key(request))
        return await handler(request)

    return [count, put_into_words, admit]


class _Finish:
    """Puts the last headers on every answer, streams included."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Mark the answer just before its head is sent."""
        request[BEGUN] = True
        if not request.path.startswith(SYNC_PREFIX):
            self._cors.mark(request, response)
        headers = response.headers
        headers["Server"] = "mailio-node"
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault("Referrer-Policy", "no-referrer")
