"""What a retrain may be expected to gain, from the losses so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist

import numpy as np

from monitoring.facts import Interval, LossPoint, MonitorFacts

_NEWEST = 4  # windows: a trend of more smooths away what began lately
_TELLING = 6  # windows from which on their losses say by how much windows differ
_CHI2_MEDIAN = 0.4549  # of one degree of freedom
_DAY_S = 86_400.0
_NEARLY = 0.9  # a window's last row comes a little before its end


@dataclass(frozen=True)
class Gain:
    """What is to be won back until the next look.

    Args:
        per_row: excess of the expected loss over the version's reference, in nats; its bounds have the confidence of
            the newest window's interval.
        rows: predictions to be expected.
    """

    per_row: Interval
    rows: float

    @property
    def low(self) -> float:
        """Summed over the rows, at least, in nats; 0 if nothing is certain."""
        return max(0.0, self.per_row.low) * self.rows


def expect_gain(facts: MonitorFacts, confidence: float = 0.95) -> Gain | None:
    """Expect the loss above the reference to go on as it came.

    A straight line through the newest windows, weighted by their rows, gives the loss at the middle of the time until
    the next look; less its standard error it is what is at least to be expected.
    Source: weighted least squares; variance of a predicted mean, Draper & Smith, Applied Regression Analysis (1998),
    ch. 1.4 and 3.1.

    Args:
        facts: with the losses of the windows so far, the performance in the newest and the version's reference.
        confidence: of the interval of the newest window's loss, in (0, 1).

    Returns:
        None if the reference or every loss is unknown.
    """
    reference, points = facts.reference_log_loss, _apart(facts)
    if reference is None or not points or not math.isfinite(reference):
        return None
    ahead_s = facts.look_every_s / 2
    expected, factor = _extrapolate(points[-_NEWEST:], ahead_s)
    half = _half_width(facts, factor, _unlike(points) * NormalDist().inv_cdf((1 + confidence) / 2))
    excess = expected - reference
    per_row = Interval(value=excess, low=excess - half, high=excess + half)
    return Gain(per_row, facts.rows_per_day * facts.look_every_s / _DAY_S)


def _apart(facts: MonitorFacts) -> tuple[LossPoint, ...]:
    """The points of windows that do not overlap: looks may be more frequent than windows are long."""
    seen = facts.performance
    span = seen.to_at - seen.from_at if seen and seen.from_at and seen.to_at else timedelta(0)
    kept: list[LossPoint] = []
    for point in reversed(facts.losses):
        is_own = point.version in (None, facts.version)
        if is_own and point.rows > 0 and (not kept or kept[-1].at - point.at >= _NEARLY * span):
            kept.append(point)
    return tuple(reversed(kept))


def _unlike(points: tuple[LossPoint, ...]) -> float:
    """Standard deviation of a window's loss, as windows differ from the ones before them; 0 if they are too few.

    A window's own interval knows only how its rows differ. What makes one week harder than the next, such as a storm,
    would else be taken for a loss that stays. A trend or a single jump changes the median of the steps little.
    Source: the variance by successive differences (von Neumann, 1941).
    """
    if len(points) < _TELLING:
        return 0.0
    steps = np.diff([point.log_loss for point in points])
    return float(np.sqrt(np.median(steps**2) / _CHI2_MEDIAN / 2))


def _extrapolate(points: tuple[LossPoint, ...], ahead_s: float) -> tuple[float, float]:
    """The line's value `ahead_s` after the newest point, and its variance over that of one row's loss.

    With fewer than three points there is no telling a trend from noise: their mean is expected to last.
    """
    at_s = np.array([(point.at - points[-1].at).total_seconds() for point in points])
    loss = np.array([point.log_loss for point in points])
    weight = np.array([float(point.rows) for point in points])
    total = weight.sum()
    middle, mean = float(weight @ at_s / total), float(weight @ loss / total)
    spread = float(weight @ (at_s - middle) ** 2)
    if len(points) < 3 or spread <= 0:
        return mean, 1 / total
    slope = float(weight @ ((at_s - middle) * loss)) / spread
    return mean + slope * (ahead_s - middle), 1 / total + (ahead_s - middle) ** 2 / spread


def _half_width(facts: MonitorFacts, factor: float, least: float) -> float:
    """Of the excess, one window's loss having that half-width at least; without an interval nothing is certain."""
    seen = facts.performance
    if seen is None or seen.log_loss is None:
        return math.inf
    half = max(seen.log_loss.value - seen.log_loss.low, least)
    of_reference = math.sqrt(seen.rows / facts.reference_rows) if facts.reference_rows else 0.0
    return half * math.hypot(math.sqrt(factor * seen.rows), of_reference)


def reference_half(seen: Interval, rows: int, reference_rows: int) -> float:
    """Half the width of the interval that a reference has, from that of a loss of as widely spread rows.

    Args:
        seen: the loss.
        rows: it was measured on.
        reference_rows: the reference was measured on; 0: it is taken to be exact.
    """
    return (seen.value - seen.low) * math.sqrt(rows / reference_rows) if reference_rows else 0.0
