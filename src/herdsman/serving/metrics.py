"""/metrics: what the server and its engines do, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from herdsman.generation.scheduler import Counts
from herdsman.serving.models import Models

TOTALS = {field.name for field in fields(Counts)}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The server's own counts; those of the engines are read when they are asked for."""

    def __init__(self, models: Models):
        self.registry = CollectorRegistry()
        self.registry.register(_Engines(models))
        self.requests = Counter("herdsman_requests", "Requests by answer", ["path", "status"], registry=self.registry)
        self.first_byte = Histogram(
            "herdsman_first_byte_seconds",
            "From the whole request to the beginning of its answer, which in a stream is the first text",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge("herdsman_requests_under_way", "Requests being answered", registry=self.registry)


class _Engines(Collector):
    """Statistics of each model in memory."""

    def __init__(self, models: Models):
        self.models = models

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, opened in list(self.models.opened.items()):
            for key, value in opened.service.stats().items():
                family = families.get(key)
                if family is None:
                    kind = CounterMetricFamily if key in TOTALS else GaugeMetricFamily
                    family = families[key] = kind(f"herdsman_engine_{key}", key.replace("_", " "), labels=["model"])
                family.add_metric([name], value)  # type: ignore[attr-defined]
        yield from families.values()


async def metrics(request: Request) -> Response:
    """Answers GET /metrics."""
    state = request.app.state
    state.metrics.under_way.set(state.gate.under_way)
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
