"""What a measurement is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Result:
    """One figure.

    Args:
        name: what was measured.
        value: the median.
        unit: its unit.
        better: which way is better.
        target: what it should reach, if anything.
        against: what it was compared with in the same run, if anything.
        ratio: value over that of `against`.
        n: how many runs.
    """

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    target: float | None = None
    against: str | None = None
    ratio: float | None = None
    n: int = 5


def median_seconds(work: Callable[[], object], n: int = 5) -> float:
    """Median wall time of `n` runs after one that is not counted."""
    work()
    times = []
    for _ in range(n):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
