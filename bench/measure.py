"""What a measurement is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target

    def versus(self, other: Result, factor: float) -> Result:
        """The same figure with a target of `factor` times another of the same run.

        Example:
            >>> ours, theirs = Result("ours", 2.0, "s", "lower"), Result("theirs", 4.0, "s", "lower")
            >>> ours.versus(theirs, 1.5)
            Result(name='ours', value=2.0, unit='s', better='lower', target=6.0, against='theirs', ratio=0.5, n=5)
        """
        return replace(self, target=factor * other.value, against=other.name, ratio=self.value / other.value)


def median_seconds(work: Callable[[], object], n: int = 5) -> float:
    """Median wall time of `n` runs after one that is not counted."""
    work()
    times = []
    for _ in range(n):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
