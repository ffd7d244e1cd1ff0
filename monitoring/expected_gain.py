"""What a retrain may be expected to gain, from the losses so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from monitoring.facts import Interval, LossPoint, MonitorFacts

_NEWEST = 4  # windows: a trend of more smooths away what began lately
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


def expect_gain(facts: MonitorFacts) -> Gain | None:
    """Expect the loss above the reference to go on as it came.

    A straight line through the newest windows, weighted by their rows, gives the loss at the middle of the time until
    the next look; less its standard error it is what is at least to be expected.
    Source: weighted least squares; variance of a predicted mean, Draper & Smith, Applied Regression Analysis (1998),
    ch. 1.4 and 3.1.

    Args:
        facts: with the losses of the windows so far, the performance in the newest and the version's reference.

    Returns:
        None if the reference or every loss is unknown.
    """
    reference, points = facts.reference_log_loss, _apart(facts)
    if reference is None or not points or not math.isfinite(reference):
        return None
    ahead_s = facts.look_every_s / 2
    expected, factor = _extrapolate(points, ahead_s)
    half = _half_width(facts, factor)
    excess = expected - reference
    per_row = Interval(value=excess, low=excess - half, high=excess + half)
    return Gain(per_row, facts.rows_per_day * facts.look_every_s / _DAY_S)


def _apart(facts: MonitorFacts) -> tuple[LossPoint, ...]:
    """The newest points of windows that do not overlap: looks may be more frequent than windows are long."""
    seen = facts.performance
    span = seen.to_at - seen.from_at if seen and seen.from_at and seen.to_at else timedelta(0)
    kept: list[LossPoint] = []
    for point in reversed(facts.losses):
        is_own = point.version in (None, facts.version)
        if is_own and point.rows > 0 and (not kept or kept[-1].at - point.at >= _NEARLY * span):
            kept.append(point)
    return tuple(reversed(kept[:_NEWEST]))


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


def _half_width(facts: MonitorFacts, factor: float) -> float:
    """Of the excess; without a measured interval nothing is certain."""
    seen = facts.performance
    if seen is None or seen.log_loss is None:
        return math.inf
    found = seen.log_loss
    expected = (found.value - found.low) * math.sqrt(factor * seen.rows)
    return math.hypot(expected, reference_half(found, seen.rows, facts.reference_rows))


def reference_half(seen: Interval, rows: int, reference_rows: int) -> float:
    """Half the width of the interval that a reference has, from that of a loss of as widely spread rows.

    Args:
        seen: the loss.
        rows: it was measured on.
        reference_rows: the reference was measured on; 0: it is taken to be exact.
    """
    return (seen.value - seen.low) * math.sqrt(rows / reference_rows) if reference_rows else 0.0
