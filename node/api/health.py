"""Whether the node answers, and its figures."""

from __future__ import annotations

import hmac

import msgspec

from node.api.authentication import PasswordRequired, basic_password
from node.api.metrics import CONTENT_TYPE, Metrics
from node.api.route import Call, Route
from node.core import SOFTWARE, Core


class Health(msgspec.Struct, frozen=True):
    """Sign of life (wire spec section 7.1); `domain` is the first email domain."""

    status: str
    version: str
    mode: str
    domain: str


class HealthRoutes:
    """Routes for whoever watches the node."""

    def __init__(self, core: Core, metrics: Metrics) -> None:
        self._settings = core.settings
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Declare the routes; `/metrics` only when the settings want it."""
        health = Route(
            method="GET",
            path="/api/healthcheck",
            summary="Whether the node answers",
            tag="operation",
            handler=self.health,
            answer=Health,
        )
        metrics = Route(
            method="GET",
            path="/metrics",
            summary="Figures for Prometheus",
            tag="operation",
            handler=self.metrics,
            answer=str,
            content_type=CONTENT_TYPE,
            refusals=(401,) if self._settings.http.metrics_password else (),
        )
        return [health, metrics] if self._settings.http.metrics else [health]

    async def health(self, _: Call[None, None]) -> Health:
        """Say that the loop runs."""
        version = SOFTWARE.partition("/")[2]
        return Health("ok", version, "release", self._settings.node.email_domains[0])

    async def metrics(self, call: Call[None, None]) -> bytes:
        """Collect the figures, for who knows the password if there is one. Raises PasswordRequired."""
        wanted = self._settings.http.metrics_password
        if wanted and not hmac.compare_digest(basic_password(call.request).encode(), wanted.encode()):
            raise PasswordRequired("the figures ask for a password")
        return self._metrics.text()
