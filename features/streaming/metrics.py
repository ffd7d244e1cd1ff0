"""What the stream worker tells Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from core.errors import SettingsError
from features.streaming.apply import Applied
from features.streaming.lag import Lag

_PREFIX = "evergreen_stream"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class StreamMetrics:
    """Counters and gauges of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = self._counter("events", "Events applied to online features.")
        self._duplicates = self._counter("duplicates", "Events left out because their id was seen before.")
        self._late = self._counter("late", "Events that came too late for every window.")
        self._unfit = self._counter("unfit", "Events that do not fit their source's declaration.")
        self._entries = self._counter("entries", "Log entries applied.")
        self._batches = self._counter("batches", "Steps that applied something.")
        self._flushed = self._counter("flushed_rows", "Rows written to the offline log.")
        self._seconds = Histogram(
            f"{_PREFIX}_apply_seconds", "Seconds a step took.", buckets=_SECONDS, registry=self.registry
        )
        self._lag_s = self._gauge("lag_seconds", "Age of the oldest entry that waits to be applied.")
        self._lag_entries = self._gauge("lag_entries", "Entries that wait to be applied, about.")
        self._length = self._gauge("log_entries", "Entries in the log that are not in the offline log yet.")
        self._held = Gauge(f"{_PREFIX}_partitions", "Partitions that this worker applies.", registry=self.registry)

    def serve(self, port: int) -> None:
        """Answer Prometheus on the loopback interface, from a thread.

        Raises:
            SettingsError: if the port is taken.
        """
        try:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise SettingsError(
                f"EVERGREEN_STREAM__PORT {port} cannot be listened on ({error}). Give each stream worker of a machine "
                "a port of its own."
            ) from error

    def applied(self, done: Applied, seconds: float) -> None:
        """Count what one step did."""
        counters = (self._events, self._duplicates, self._late, self._unfit, self._entries)
        counts = (done.events, done.duplicates, done.late, done.unfit, done.entries)
        for counter, count in zip(counters, counts, strict=True):
            counter.inc(count)
        self._batches.inc()
        self._seconds.observe(seconds)

    def flushed(self, rows: int) -> None:
        """Count rows written to the offline log."""
        self._flushed.inc(rows)

    def behind(self, found: Sequence[Lag], held: int) -> None:
        """Note how far each partition is behind, and how many this worker holds."""
        for partition, behind in enumerate(found):
            self._lag_s.labels(str(partition)).set(behind.seconds)
            self._lag_entries.labels(str(partition)).set(behind.entries)
            self._length.labels(str(partition)).set(behind.length)
        self._held.set(held)

    def _counter(self, name: str, says: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", says, registry=self.registry)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", says, ["partition"], registry=self.registry)
