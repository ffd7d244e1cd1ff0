"""What any test could see: bounds for the power of ours, by those who know what no test is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.judged_streams import COLUMNS, DAY_US, REFERENCE_DAYS, REFERENCE_ROWS, SHIFTED, START_US, Stream
from monitoring.scores import evidence

Floats = npt.NDArray[np.float64]

_DRAWS = 200_000


@dataclass(frozen=True)
class Seen:
    """Of windows with a shift, whether each is told from those without, and whether what moved stands out the most."""

    seen: npt.NDArray[np.bool_]
    first: npt.NDArray[np.bool_]


class StreamOracle:
    """Knows the wave, how the days correlate, the normal number behind each value, and that all shifts are alike.

    It sees a shift by the likelihood ratio of a few columns among many; what moved first is what it would name if it
    need not be sure of any.
    """

    def __init__(self, stream: Stream, false_alarms: float) -> None:
        self._stream = stream
        self._reference = self._mean(range(REFERENCE_DAYS), REFERENCE_ROWS, 0, 0.0)
        drawn = np.random.default_rng(1).standard_normal((_DRAWS, len(COLUMNS)))
        self._limit = float(np.quantile(evidence(np.abs(drawn)), 1 - false_alarms))

    def look(self, windows: Sequence[Sequence[tuple[range, int]]], rows: int, shift: float) -> Seen:
        """Of windows of one or several weeks in a row, each given by its days and its draw."""
        scores = np.stack([self._scores(weeks, rows, shift) for weeks in windows])
        top = np.sort(np.argsort(-scores, axis=1)[:, : len(SHIFTED)], axis=1)
        return Seen(evidence(scores) > self._limit, (top == np.arange(len(SHIFTED))).all(axis=1))

    def _scores(self, weeks: Sequence[tuple[range, int]], rows: int, shift: float) -> Floats:
        mean = np.mean([self._mean(days, rows, draw, shift) for days, draw in weeks], axis=0)
        spans = ((sum(len(days) for days, _ in weeks), rows * len(weeks)), (REFERENCE_DAYS, REFERENCE_ROWS))
        variance = sum(self._stream.variance_of_mean(days) + 1 / many for days, many in spans)
        return np.asarray(np.abs(mean - self._reference) / np.sqrt(variance))

    def _mean(self, days: range, rows: int, draw: int, shift: float) -> Floats:
        at_us, values = self._stream.latent(days, rows, draw, shift)
        return np.asarray((values - self._stream.wave((at_us - START_US) // DAY_US)).mean(axis=0))


def afterwards(still: Sequence[Mapping[str, float]], moved: Sequence[Mapping[str, float]]) -> Seen:
    """Who knows the means of all weeks to come without the shift, and so which limits let none of them raise anything.

    Args:
        still: means of the columns of each week as it was.
        moved: those of the shifted columns of the same weeks.
    """
    names, shifted = list(still[0]), set(moved[0])
    usual = np.array([[week[name] for name in names] for week in still])
    with_shift = np.array(
        [[week.get(name, as_was[name]) for name in names] for week, as_was in zip(moved, still, strict=True)]
    )
    away, spread = np.abs(with_shift - usual.mean(axis=0)), np.maximum(usual.std(axis=0), 1e-12)
    limits = np.abs(usual - usual.mean(axis=0)).max(axis=0)
    own = np.array([name in shifted for name in names])
    top = np.argsort(-away / spread, axis=1)[:, : len(shifted)]
    return Seen((away > limits)[:, own].any(axis=1), own[top].all(axis=1))
