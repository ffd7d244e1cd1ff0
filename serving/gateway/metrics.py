"""What Prometheus may scrape from the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
    values,
)

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_INSTANCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_PREFIX = "evergreen_gateway"


class GatewayMetrics:
    """The gateway's counters and histograms, in a registry of their own.

    What is measured per call of the model host is measured once for all requests that share the call.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests answered.", "route", "status")
        self._shed = self._counter("shed", "Predict requests refused at once, as they would wait too long.", "reason")
        self._degraded = self._counter("degraded", "Predictions made with a missing or stale feature.")
        self._answers = self._counter("answers", "Predict requests by the version that answered.", "version")
        self._errors = self._counter("version_errors", "Predict requests a version gave no scores for.", "version")
        self._retries = self._counter("retries", "Calls of the model host made again.", "outcome", by_use_case=False)
        self._shadows = self._counter("shadow", "Predict requests mirrored to a shadow.", "outcome")
        self._spooled = self._counter("log_spooled", "Calls whose predictions had to be logged on disk for now.")
        self._stage = Histogram(
            f"{_PREFIX}_stage_seconds",
            "Seconds: total of a predict request; of a call of the model host queue, call, features, model and log.",
            ("use_case", "stage"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            f"{_PREFIX}_batch_instances",
            "Instances per call of the model host.",
            ("use_case",),
            buckets=_INSTANCES,
            registry=self.registry,
        )
        self._breaker = Gauge(
            f"{_PREFIX}_breaker_open",
            "1 while a version is left alone.",
            ("use_case", "version"),
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self._pending = Gauge(
            f"{_PREFIX}_pending_instances",
            "Instances accepted and not answered.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.pending = 0
        self._children: dict[Any, Any] = {}

    def answered(self, route: str, status: int) -> None:
        """Count one request."""
        key = route, status
        counter = self._children.get(key)
        if counter is None:
            counter = self._children[key] = self._requests.labels(route, str(status))
        counter.inc()

    def predicted(self, use_case: str, total_s: float, degraded: int) -> None:
        """Record one answered predict request."""
        self._observe(use_case, "total", total_s)
        if degraded:
            self._degraded.labels(use_case).inc(degraded)

    def waited(self, use_case: str, seconds: float) -> None:
        """Record how long the first request of a call had waited for it."""
        self._observe(use_case, "queue", seconds)

    def called(self, use_case: str, answer: Mapping[str, Any], instances: int, call_s: float) -> None:
        """Record one answered call of the model host."""
        self._observe(use_case, "call", call_s)
        for stage, seconds in zip(("features", "model", "log"), answer["timing"], strict=False):
            self._observe(use_case, stage, seconds)
        batch = self._children.get(use_case)
        if batch is None:
            batch = self._children[use_case] = self._batch.labels(use_case)
        batch.observe(instances)
        if answer["logged"] == "spool":
            self._spooled.labels(use_case).inc()

    def shed(self, use_case: str, reason: str) -> None:
        """Count a request that was refused at once."""
        key = use_case, reason, "shed"
        counter = self._children.get(key)
        if counter is None:
            counter = self._children[key] = self._shed.labels(use_case, reason)
        counter.inc()

    def answered_by(self, use_case: str, version: str, n: int) -> None:
        """Count requests that a version answered."""
        self._answers.labels(use_case, version).inc(n)

    def failed_by(self, use_case: str, version: str, n: int) -> None:
        """Count requests that a version did not answer."""
        self._errors.labels(use_case, version).inc(n)

    def retried(self, outcome: str) -> None:
        """Count a call made again, or not made again for want of budget."""
        self._retries.labels(outcome).inc()

    def mirrored(self, use_case: str, outcome: str) -> None:
        """Count a request that a shadow was to be asked, too."""
        self._shadows.labels(use_case, outcome).inc()

    def breaker(self, use_case: str, version: str, *, is_open: bool) -> None:
        """Note whether a version is left alone."""
        self._breaker.labels(use_case, version).set(is_open)

    def stage_buckets(self, use_case: str) -> dict[str, list[tuple[float, float]]]:
        """Latencies of a use case by stage, of all gateway processes that share the port.

        Returns:
            Stage -> upper bounds in seconds, rising to infinity, each with the number of calls within it.
        """
        found: dict[str, list[tuple[float, float]]] = {}
        for family in self._together().collect():
            for sample in family.samples:
                labels = sample.labels
                if sample.name == f"{_PREFIX}_stage_seconds_bucket" and labels["use_case"] == use_case:
                    found.setdefault(labels["stage"], []).append((float(labels["le"]), sample.value))
        return {stage: sorted(buckets) for stage, buckets in found.items()}

    def page(self) -> bytes:
        """Everything, in Prometheus's text format; of all gateway processes, if several share the port."""
        self._pending.set(self.pending)
        return generate_latest(self._together())

    def _together(self) -> CollectorRegistry:
        if values.ValueClass is values.MutexValue:
            return self.registry
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def _observe(self, use_case: str, stage: str, seconds: float) -> None:
        key = use_case, stage
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._stage.labels(use_case, stage)
        child.observe(seconds)

    def _counter(self, name: str, what: str, *labels: str, by_use_case: bool = True) -> Counter:
        names = labels if "route" in labels or not by_use_case else ("use_case", *labels)
        return Counter(f"{_PREFIX}_{name}", what, names, registry=self.registry)
