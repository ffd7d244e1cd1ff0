"""Adding up what gateways count, over gateways that come, go and start again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from serving.gateway_report import LATENCY_BOUNDS_S, Report, Tally

_KNOWN_GATEWAYS = 1000
_SAMPLE_EVERY_S = 5.0
NOTHING = Tally()


def plus(a: Tally, b: Tally) -> Tally:
    """What both counted."""
    latency = [x + y for x, y in zip(a.latency, b.latency, strict=True)]
    return Tally(a.requests + b.requests, a.errors + b.errors, latency)


def minus(later: Tally, earlier: Tally) -> Tally:
    """What was counted between two states of the same tally."""
    latency = [x - y for x, y in zip(later.latency, earlier.latency, strict=True)]
    return Tally(later.requests - earlier.requests, later.errors - earlier.errors, latency)


class Counts:
    """Totals by version that only ever rise, whatever becomes of the gateways that count.

    A gateway that has vanished keeps its part, one that counts less than before has started again. What
    gateways had counted before the first look is in the totals too; what happened in a span is the difference of two.

    Args:
        keep_s: how many seconds back totals are remembered.

    Example:
        >>> counts = Counts(keep_s=600)
        >>> counts.look({"a": Report({}, {}, {"toy/7": Tally(5, 1)}, 0)}, now_s=0.0)
        >>> counts.look({"b": Report({}, {}, {"toy/7": Tally(2, 0)}, 0)}, now_s=1.0)
        >>> counts.now("toy", "7").requests
        7
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._last: dict[str, Mapping[str, Tally]] = {}
        self._totals: dict[str, Tally] = {}
        self._before: dict[str, Tally] | None = None
        self._samples: deque[tuple[float, dict[str, Tally]]] = deque()

    def look(self, reports: Mapping[str, Report], now_s: float) -> None:
        """Take in the gateways' reports.

        Args:
            reports: of the live gateways, by their ids.
            now_s: seconds on a clock that never goes backwards.
        """
        is_first = not self._samples
        self._before = None if is_first else dict(self._totals)
        for gateway, report in reports.items():
            last = self._last.pop(gateway, {})  # put in again at the end: the first ones are the longest gone
            for key, tally in report.tallies.items():
                if len(tally.latency) != len(LATENCY_BOUNDS_S) + 1:  # of another release
                    continue
                known = last.get(key, NOTHING)
                fresh = minus(tally, known if tally.requests >= known.requests else NOTHING)
                if fresh.requests:
                    self._totals[key] = plus(self._totals.get(key, NOTHING), fresh)
            self._last[gateway] = report.tallies
        while len(self._last) > max(_KNOWN_GATEWAYS, len(reports)):
            del self._last[next(iter(self._last))]
        if is_first or now_s - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now_s, dict(self._totals)))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - self._keep_s:
            self._samples.popleft()

    def now(self, use_case: str, version: str) -> Tally:
        """Everything that was counted of a version."""
        return self._totals.get(f"{use_case}/{version}", NOTHING)

    def before(self, use_case: str, version: str) -> Tally:
        """The same as of the look before the last one; as of the last one if it was the first."""
        totals = self._totals if self._before is None else self._before
        return totals.get(f"{use_case}/{version}", NOTHING)

    def lately(self, use_case: str, version: str) -> Tally:
        """What was counted of a version within the last `keep_s` seconds, or since the first look."""
        oldest = self._samples[0][1] if self._samples else {}
        return minus(self.now(use_case, version), oldest.get(f"{use_case}/{version}", NOTHING))
