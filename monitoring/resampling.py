"""How sure a mean is whose rows depend on each other: whole units of rows are drawn again."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

from core.losses import Floats
from monitoring.facts import Interval

Codes = npt.NDArray[np.int64]
_DRAWS = 400
# Units beyond this many are drawn in groups: the spread of so many groups is known well enough.
_MOST_UNITS = 1000
_MOST_BLOCKS = 200


def time_blocks(at: pd.Series) -> Codes:
    """For each of n rows the number of its block of consecutive rows in time, shape (n,).

    Blocks have n^(1/3) rows, more where that makes over 200 of them: longer ones cover longer dependence.
    Source: Künsch (1989); the order of the length from Hall, Horowitz & Jing (1995).

    Args:
        at: times, in any order.
    """
    n = len(at)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(at.to_numpy(), kind="stable")] = np.arange(n)
    length = max(math.ceil(n ** (1 / 3)), math.ceil(n / _MOST_BLOCKS), 1)
    blocks: Codes = rank // length
    return blocks


def entity_units(entity: pd.Series) -> Codes:
    """For each of n rows the number of its entity, shape (n,): what one entity asked depends on each other."""
    return pd.factorize(entity, use_na_sentinel=False)[0].astype(np.int64)


class Resampled:
    """Means over rows, and where they lie when whole units are drawn again: the same draws for every mean.

    Intervals are percentiles, widened for few units.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), 13.3; Hesterberg, What Teachers Should Know
    About the Bootstrap (2015), 5.3 (the widening).

    Args:
        units: the unit of each of n rows, whole numbers from 0, shape (n,).
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Example:
        >>> rows = Resampled(np.arange(100))
        >>> found = rows.mean(np.tile([0.0, 1.0], 50), support=(0, 1))
        >>> (found.value, found.low < 0.45, found.high > 0.55)
        (0.5, True, True)
    """

    def __init__(self, units: Codes, *, confidence: float = 0.95, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        k = int(units.max()) + 1 if units.size else 0
        if k > _MOST_UNITS:
            units, k = rng.permutation(k)[units] % _MOST_UNITS, _MOST_UNITS
        self._units, self._k, self._tail = units, k, (1 - confidence) / 2
        drawn = rng.integers(0, k, (_DRAWS, k)) if k else np.zeros((_DRAWS, 0), dtype=np.int64)
        places = drawn + k * np.arange(_DRAWS)[:, None]
        self._times = np.bincount(places.ravel(), minlength=_DRAWS * k).reshape(_DRAWS, k).astype(np.float64)

    def mean(
        self,
        values: Floats,
        *,
        support: tuple[float, float],
        rows: npt.NDArray[np.bool_] | None = None,
        offset: float = 0.0,
    ) -> Interval:
        """The mean of some rows' values.

        Args:
            values: shape (n,).
            support: between what the mean can lie at all: what is known of it where the rows are of one unit only.
            rows: which of the n rows count, at least one; None: all.
            offset: is added to the mean.
        """
        units, counted = (self._units, values) if rows is None else (self._units[rows], values[rows])
        sums, counts = (np.bincount(units, weights=w, minlength=self._k) for w in (counted, np.ones(len(counted))))
        value = float(counted.mean()) + offset
        k = int(np.count_nonzero(counts))
        if k < 2:
            return Interval(value=value, low=support[0], high=support[1])
        times = self._times @ counts
        drawn = (self._times @ sums)[times > 0] / times[times > 0] + offset
        tail = float(stats.norm.cdf(math.sqrt(k / (k - 1)) * stats.t.ppf(self._tail, k - 1)))
        low, high = np.clip(np.quantile(drawn, [tail, 1 - tail]), *support)
        return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
