"""What Prometheus may scrape about keys and limits; refused calls are among the requests, by status."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.gateway.access import Access


class AccessMetrics:
    """The age of the known keys, and exchanges of counts that failed.

    Args:
        registry: where they are registered.
        access: knows the age.
    """

    def __init__(self, registry: CollectorRegistry, access: Access) -> None:
        self._access = access
        self._age = Gauge(
            "evergreen_gateway_keys_age_seconds",
            "Seconds since the table of API keys was last read; it is read twice a second.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._failed = Counter(
            "evergreen_gateway_limit_exchange_failures",
            "Exchanges of counted calls with Redis that failed: limits hold per process meanwhile.",
            registry=registry,
        )

    def look(self) -> None:
        """Note the age as it is now: before every scrape."""
        self._age.set(self._access.age_s())

    def exchange_failed(self) -> None:
        """Count one exchange that failed."""
        self._failed.inc()
