"""What every gateway process tells the deployer, a few times a second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

LATENCY_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of the buckets of latencies, in seconds; one more bucket holds what takes longer."""


@dataclass(slots=True)
class Tally:
    """How one version did on one gateway, since the gateway started.

    Args:
        requests: calls of clients it was asked for, answered or not.
        errors: those of them that it gave no scores for, whatever the client got in the end.
        latency: answered calls by how long the version took, as counts in the buckets of `LATENCY_BOUNDS_S`.
    """

    requests: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))

    def answered(self, seconds: float, n: int = 1) -> None:
        """Count n calls that were answered in that time."""
        self.requests += n
        self.latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += n

    def failed(self, n: int = 1) -> None:
        """Count n calls that were not."""
        self.requests += n
        self.errors += n


@dataclass(frozen=True, slots=True)
class Report:
    """What one gateway process follows and has seen.

    Args:
        stamps: use case -> stamp of the route it follows (`serving.routing.Route.stamp`).
        in_flight: ``use case/version`` -> instances it waits for.
        tallies: ``use case/version`` -> how that version did here since this process started; of canaries,
            champions and shadows alike.
        at_ms: when it was written, by the wall clock, in ms since 1970 UTC.
    """

    stamps: Mapping[str, str]
    in_flight: Mapping[str, int]
    tallies: Mapping[str, Tally]
    at_ms: int

    def encode(self) -> bytes:
        """As JSON."""
        tallies = {key: [t.requests, t.errors, t.latency] for key, t in self.tallies.items()}
        return orjson.dumps(
            {"stamps": self.stamps, "in_flight": self.in_flight, "tallies": tallies, "at_ms": self.at_ms}
        )

    @classmethod
    def decode(cls, raw: bytes) -> Report:
        """From JSON.

        Raises:
            ValueError: if it is no report.
        """
        try:
            entry: dict[str, Any] = orjson.loads(raw)
            tallies = {key: Tally(int(t[0]), int(t[1]), list(t[2])) for key, t in entry["tallies"].items()}
            return cls(dict(entry["stamps"]), dict(entry["in_flight"]), tallies, int(entry["at_ms"]))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"no report: {raw[:200]!r}") from error
