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
        age = Gauge(
            "evergreen_gateway_keys_age_seconds",
            "Seconds since the table of API keys was last read; it is read twice a second.",
            registry=registry,
        )
        age.set_function(access.age_s)
        self._failed = Counter(
            "evergreen_gateway_limit_exchange_failures",
            "Exchanges of counted calls with Redis that failed: limits hold per process meanwhile.",
            registry=registry,
        )

    def exchange_failed(self) -> None:
        """Count one exchange that failed."""
        self._failed.inc()
