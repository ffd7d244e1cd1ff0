"""Scores: sizes of all kinds made comparable, and what those of several columns or windows say together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit  # type: ignore[import-untyped]

from monitoring.bins import ColumnBins

Floats = npt.NDArray[np.float64]

CERTAIN = 1e6
"""Degrees of freedom of what is as good as known."""
_LOW, _HIGH = 0.5, 0.98
_LARGEST = 50.0
_PART, _MOVED = 0.1, 3.5
_SEED = 20_260_101
_MEANS = 100_000


@dataclass(frozen=True)
class Scale:
    """What makes a size comparable: of a column without drift it becomes like a standard normal number's, sign dropped.

    Args:
        zero: size that becomes 0.
        unit: size that makes 1 more, near 0.
        df: degrees of freedom of sizes in such units: the fewer, the larger ones are to be expected.

    Source: what a Student number is to a normal one (Wallace, 1959).
    """

    zero: float
    unit: float
    df: float = CERTAIN

    @classmethod
    def of(cls, drawn: Floats, df: float = CERTAIN) -> Scale:
        """That of drawn sizes, (draws,), from their median and an upper quantile."""
        low, high = np.quantile(drawn, [_LOW, _HIGH])
        near, far = (float(stdtrit(df, (1 + share) / 2)) for share in (_LOW, _HIGH))
        unit = max(float(high - low) / (far - near), 1e-9)
        return cls(float(low) - near * unit, unit, df)

    def score(self, sizes: Floats) -> Floats:
        """Sizes on that scale, of any shape."""
        student = (sizes - self.zero) / self.unit
        return np.asarray(np.sign(student) * self._normal * np.sqrt(self.df * np.log1p(student**2 / self.df)))

    def size(self, score: float) -> float:
        """What has that score."""
        student = np.sqrt(self.df * np.expm1(min((score / self._normal) ** 2 / self.df, _LARGEST)))
        return self.zero + float(np.sign(score) * student) * self.unit

    @property
    def _normal(self) -> float:
        return (8 * self.df + 1) / (8 * self.df + 3)


@dataclass(frozen=True)
class Scales:
    """Of one column: of its distance, of its shift (None for codes), and of the larger of the two scores."""

    distance: Scale
    shift: Scale | None
    larger: Scale

    def score(self, away: Floats, column: ColumnBins) -> Floats:
        """Of differences of curves, (…, m): (…,)."""
        found = self.distance.score(np.abs(away) @ column.distance_weights)
        if self.shift is not None:
            found = np.maximum(found, self.shift.score(np.abs(away @ column.shift_weights)))
        return self.larger.score(found)

    def distance_at(self, score: float, away: Floats, column: ColumnBins) -> float:
        """The distance from which on a difference of that form has that score."""
        larger, size = self.larger.size(score), float(np.abs(away) @ column.distance_weights)
        by_distance = self.distance.size(larger)
        if self.shift is None or not (shift := float(np.abs(away @ column.shift_weights))):
            return by_distance
        return min(by_distance, self.shift.size(larger) * size / shift)


def evidence(scores: Floats) -> Floats:
    """Of scores of columns, (…, n), that some of them moved: where one stands out, its score; where several do, more.

    Source: the likelihood ratio of a sparse mixture of shifted normal numbers (Ingster, 1997; Donoho and Jin, 2004),
    a tenth of the columns by 3.5, on the scale of a single score.
    """
    moved = _MOVED * scores + np.log1p(np.exp(-2 * _MOVED * np.abs(scores))) - np.log(2.0) - _MOVED**2 / 2
    ratios = np.logaddexp(0.0, np.log(_PART / (1 - _PART)) + moved)
    alone = np.log(_PART / (1 - _PART) / 2) - _MOVED**2 / 2
    return np.asarray((ratios.sum(axis=-1) - alone) / _MOVED)


def over_windows(scores: Floats, alike: float, *, most: int = 1) -> Floats:
    """Of scores of columns in k windows in a row, (…, k): what their means are worth, as a score, (…,).

    Args:
        scores: not below 0.
        alike: how windows in a row are correlated, see `Variation.alike`.
        most: no window counts for more than the so-many-th strongest.
    """
    windows = scores.shape[-1]
    if windows == 1:
        return np.asarray(scores[..., 0])
    return _scale_of_means(windows, most, round(alike, 1)).score(_mean(scores, most))


def _mean(scores: Floats, most: int) -> Floats:
    strongest = np.sort(scores, axis=-1)[..., ::-1]
    return np.asarray(np.minimum(strongest, strongest[..., most - 1 : most]).mean(axis=-1))


@cache
def _scale_of_means(windows: int, most: int, alike: float) -> Scale:
    """That of such means, no column having moved."""
    rng = np.random.default_rng(_SEED)
    common, own = rng.standard_normal((_MEANS, 1)), rng.standard_normal((_MEANS, windows))
    return Scale.of(_mean(np.abs(np.sqrt(alike) * common + np.sqrt(1 - alike) * own), most))
