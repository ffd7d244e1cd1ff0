"""What Prometheus may scrape from the gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_INSTANCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class GatewayMetrics:
    """The gateway's counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "evergreen_gateway_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "evergreen_gateway_latency_seconds",
            "Seconds per predict request: total, and of that the model host.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "evergreen_gateway_batch_instances",
            "Instances per call of the model host.",
            buckets=_INSTANCES,
            registry=self.registry,
        )
        self.shed = Counter("evergreen_gateway_shed", "Predict requests refused: queue full.", registry=self.registry)
        self._degraded = Counter(
            "evergreen_gateway_degraded",
            "Predictions made with a missing or stale feature.",
            ("use_case",),
            registry=self.registry,
        )
        self.pending = Gauge(
            "evergreen_gateway_pending_instances", "Instances accepted and not answered.", registry=self.registry
        )
        self._total = self._latency.labels("total")
        self._model = self._latency.labels("model")
        self._by_route: dict[tuple[str, int], Counter] = {}

    def answered(self, route: str, status: int) -> None:
        """Count one request."""
        counter = self._by_route.get((route, status))
        if counter is None:
            counter = self._by_route[route, status] = self._requests.labels(route, str(status))
        counter.inc()

    def predicted(self, use_case: str, seconds: float, degraded: int) -> None:
        """Record one answered predict request."""
        self._total.observe(seconds)
        if degraded:
            self._degraded.labels(use_case).inc(degraded)

    def called(self, seconds: float, instances: int) -> None:
        """Record one call of the model host."""
        self._model.observe(seconds)
        self._batch.observe(instances)

    def page(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)
