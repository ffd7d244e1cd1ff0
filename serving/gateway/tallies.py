"""How each version does on this gateway: told to the deployer, which takes back what is worse."""

from __future__ import annotations

from collections.abc import Mapping

from serving.gateway.metrics import GatewayMetrics
from serving.gateway_report import Tally

_MOST = 256  # use cases times versions; the oldest are forgotten first


class Tallies:
    """Counts answers and errors by use case and version since this process started.

    Args:
        metrics: told the same.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._tallies: dict[str, Tally] = {}

    def answered(self, use_case: str, version: str, seconds: float, n: int) -> None:
        """Count n clients' calls that a version answered in that time."""
        self._of(use_case, version).answered(seconds, n)
        self._metrics.answered_by(use_case, version, n)

    def failed(self, use_case: str, version: str, n: int) -> None:
        """Count n clients' calls that a version did not answer."""
        self._of(use_case, version).failed(n)
        self._metrics.failed_by(use_case, version, n)

    def all(self) -> Mapping[str, Tally]:
        """By ``use case/version``."""
        return self._tallies

    def _of(self, use_case: str, version: str) -> Tally:
        key = f"{use_case}/{version}"
        found = self._tallies.get(key)
        if found is None:
            if len(self._tallies) >= _MOST:
                del self._tallies[next(iter(self._tallies))]
            found = self._tallies[key] = Tally()
        return found
