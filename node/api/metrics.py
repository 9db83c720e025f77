"""The node's figures in Prometheus' text format. Nothing is counted here but requests.

The rooms count for themselves in plain attributes; they are read when somebody asks.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from actors.outgoing import Figures
from events.destination import Breaker
from node.api.failures import Next, route_of
from node.core import SOFTWARE, Core
from node.smtp.door import SmtpDoor

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
"""Methods with a label of their own: a stranger must not be able to make labels."""

Sample = tuple[str, str, float]
"""Name without prefix, what it counts, value."""


class Traffic:
    """Requests since the start, by method, route and status, and the time that they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.microseconds: Counter[str] = Counter()
        self.open = 0

    async def counted(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """Let the handler answer and count it; one that breaks off counts as 499."""
        method = request.method if request.method in METHODS else "other"
        route, began, status = route_of(request), time.perf_counter(), 499
        self.open += 1
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            self.open -= 1
            self.requests[method, route, status] += 1
            self.microseconds[route] += int((time.perf_counter() - began) * 1_000_000)


class Metrics:
    """The registry of one node."""

    def __init__(self, core: Core, smtp: SmtpDoor, traffic: Traffic) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (_Rooms(core), _Views(core), _Deliveries(core), _Smtp(smtp), _Http(traffic)):
            self._registry.register(collector)

    def text(self) -> bytes:
        """Write all figures down."""
        return generate_latest(self._registry)


class _Rooms(Collector):
    """Log, dispatcher and actors."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("mailio_info", "The software that runs", labels=["software"])
        info.add_metric([SOFTWARE], 1)
        yield info
        yield from _families(self._gauges(), self._counters())

    def _gauges(self) -> list[Sample]:
        core, dispatcher = self._core, self._core.dispatcher
        return [
            ("log_position", "Position of the last durable event", core.log.head),
            ("data_free_bytes", "Free room on the disk of the data folder", _free_bytes(core)),
            ("dispatcher_backlog", "Events that no actor has finished yet", dispatcher.backlog),
            ("dispatcher_in_flight", "Reactions under way or waiting", dispatcher.in_flight),
            ("actors_active", "Actors in memory", core.actors.active),
            ("actors_inbox_high_water", "Most messages that ever waited", core.actors.inbox_high_water),
        ]

    def _counters(self) -> list[Sample]:
        dispatcher, actors = self._core.dispatcher, self._core.actors
        return [
            ("dispatcher_reactions", "Reactions finished", dispatcher.reactions),
            ("dispatcher_retries", "Reactions tried again", dispatcher.retries),
            ("dispatcher_parked", "Reactions parked", dispatcher.parked),
            ("dispatcher_checkpoint_failures", "Failed saves", dispatcher.checkpoint_failures),
            ("actors_activations", "Actors taken into memory", actors.activations),
            ("actors_passivations", "Actors put out of memory", actors.passivations),
            ("actors_restarts", "Actors restarted after a failure", actors.restarts),
            ("actors_suspensions", "Actors suspended after many failures", actors.suspensions),
        ]


class _Views(Collector):
    """The runners of the views, a label for each."""

    def __init__(self, core: Core) -> None:
        self._views = core.views

    def collect(self) -> Iterable[Metric]:
        runners = self._views.runners
        for name, text in (
            ("position", "Last log position in the view"),
            ("lag", "Events behind the log"),
            ("rate", "Log positions per second, over ten seconds"),
        ):
            gauge = GaugeMetricFamily(f"mailio_view_{name}", text, labels=["view"])
            for view, runner in runners.items():
                gauge.add_metric([view], getattr(runner, name))
            yield gauge
        waiting = GaugeMetricFamily("mailio_view_waiting", "1 while something fails", labels=["view"])
        for view, runner in runners.items():
            waiting.add_metric([view], float(bool(runner.status.waiting_for)))
        yield waiting
        yield from self._counters()

    def _counters(self) -> Iterator[Metric]:
        for name in ("events", "changes", "batches", "parked", "retries"):
            counter = CounterMetricFamily(f"mailio_view_{name}", f"{name} since the start", labels=["view"])
            for view, runner in self._views.runners.items():
                counter.add_metric([view], getattr(runner.status, name))
            yield counter


class _Deliveries(Collector):
    """What goes out, a label for each of the first hundred destinations; the rest are one."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        outgoing, backlog = self._core.federation.outgoing, self._core.federation.backlog
        yield from _families(
            [
                ("deliveries_under_way", "Attempts that are being made", outgoing.under_way),
                ("deliveries_waiting", "Deliveries that have not ended", backlog.total),
                ("deliveries_held", "Deliveries that an operator keeps back", backlog.held),
                ("deliveries_oldest_seconds", "Age of the oldest that waits", backlog.age(self._core.clock)),
            ],
            [],
        )
        yield from self._states(outgoing.figures)
        waiting = GaugeMetricFamily(
            "mailio_destination_waiting", "Deliveries that wait for it", labels=["destination"]
        )
        for name, count in backlog.by_destination.items():
            waiting.add_metric([name], count)
        yield waiting

    def _states(self, figures: Mapping[str, Figures]) -> Iterator[Metric]:
        opened = GaugeMetricFamily(
            "mailio_destination_breaker_open", "1 while it is left alone", labels=["destination"]
        )
        for name, known in figures.items():
            opened.add_metric([name], float(known.breaker is not Breaker.CLOSED))
        yield opened
        for name in ("attempts", "delivered", "deferred", "failed"):
            counter = CounterMetricFamily(
                f"mailio_destination_{name}", f"{name} since the start", labels=["destination"]
            )
            for destination, known in figures.items():
                counter.add_metric([destination], getattr(known, name))
            yield counter


class _Smtp(Collector):
    """The SMTP door."""

    def __init__(self, door: SmtpDoor) -> None:
        self._door = door

    def collect(self) -> Iterable[Metric]:
        counters = self._door.counters
        yield from _families(
            [("smtp_sessions", "Sessions open now", self._door.sessions)],
            [
                ("smtp_connections", "Sessions since the start", counters.connected),
                ("smtp_accepted", "Mails accepted", counters.accepted),
                ("smtp_faults", "Sessions that the node's own faults ended", counters.faults),
                ("smtp_tls_failures", "TLS handshakes that failed", counters.tls_failures),
            ],
        )
        refused = CounterMetricFamily("mailio_smtp_refused", "Refusals by reason", labels=["reason"])
        for reason, count in counters.refused.items():
            refused.add_metric([reason], count)
        yield refused


class _Http(Collector):
    """The HTTP door."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterable[Metric]:
        yield from _families([("http_open", "Requests being answered", self._traffic.open)], [])
        labels = ["method", "route", "status"]
        requests = CounterMetricFamily("mailio_http_requests", "Requests answered", labels=labels)
        for (method, route, status), count in self._traffic.requests.items():
            requests.add_metric([method, route, str(status)], count)
        yield requests
        seconds = CounterMetricFamily("mailio_http_seconds", "Seconds spent answering", labels=["route"])
        for route, microseconds in self._traffic.microseconds.items():
            seconds.add_metric([route], microseconds / 1_000_000)
        yield seconds


def _free_bytes(core: Core) -> int:
    try:
        return shutil.disk_usage(core.settings.node.data).free
    except OSError:
        return 0


def _families(gauges: Iterable[Sample], counters: Iterable[Sample]) -> Iterator[Metric]:
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"mailio_{name}", text, value=value)
    for name, text, value in counters:
        yield CounterMetricFamily(f"mailio_{name}", text, value=value)
