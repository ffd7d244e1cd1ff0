"""Rank correlations of a reference's quantities, and those of a window on the ranks that the reference gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]

MOST = 64
"""How many columns are put in relation to each other at most, the most important first."""
_SAMPLE = 20_000


@dataclass(frozen=True)
class RankSums:
    """What rank correlations of k columns are made of: it adds up over chunks, and does not grow with rows.

    Args:
        rows: how many were counted.
        sums: of the ranks, (k,).
        products: of each two, (k, k).

    Example:
        >>> sums = RankSums.none(2)
        >>> sums.plus(RankSums.none(2)).correlations.shape
        (2, 2)
    """

    rows: int
    sums: Floats
    products: Floats

    @classmethod
    def none(cls, columns: int) -> RankSums:
        """Of no rows."""
        return cls(0, np.zeros(columns), np.zeros((columns, columns)))

    @classmethod
    def of(cls, ranks: Sequence[Floats], bins: Sequence[ColumnBins], values: Mapping[str, Values]) -> RankSums:
        """Of 20,000 rows at most, taken at even distances; nulls count as the middle.

        Args:
            ranks: of each bin of each column, see `ranks_of`.
            bins: of these columns.
            values: of each column, float32 (n,).
        """
        rows = len(next(iter(values.values()))) if values else 0
        every = max(1, -(-rows // _SAMPLE))
        if not bins or not rows:
            return cls.none(len(bins))
        found = np.stack(
            [rank[column.index(values[column.name][::every])] for rank, column in zip(ranks, bins, strict=True)]
        )
        return cls(found.shape[1], found.sum(axis=1), found @ found.T)

    def plus(self, other: RankSums) -> RankSums:
        """Of these rows and others together."""
        return RankSums(self.rows + other.rows, self.sums + other.sums, self.products + other.products)

    @property
    def correlations(self) -> Floats:
        """Of each two columns, (k, k), in [-1, 1]; 0 where one does not vary."""
        rows = max(self.rows, 1)
        covariance = self.products / rows - np.outer(self.sums, self.sums) / rows**2
        sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        varies = sd > 1e-6
        scale = np.where(varies, sd, 1.0)
        found = np.where(varies[:, None] & varies, covariance / np.outer(scale, scale), 0.0)
        return np.clip(found, -1.0, 1.0)


def ranks_of(counts: npt.NDArray[np.int64]) -> Floats:
    """The mean rank of each bin of a quantity, in [-0.5, 0.5], from its counts (size,); that of nulls is 0.

    With 40 bins and more, Pearson's correlation of these is Spearman's of the values but for 1 in 1,000.
    Source: Kendall & Gibbons, Rank Correlation Methods (1990), ch. 3 (mean ranks of ties).
    """
    known = counts[:-1].astype(np.float64)
    total = max(float(known.sum()), 1.0)
    return np.append((np.cumsum(known) - known / 2) / total - 0.5, 0.0)


def related(bins: Sequence[ColumnBins], importance: Mapping[str, float]) -> tuple[ColumnBins, ...]:
    """The quantities that are put in relation, in their order: at most `MOST`, the most important ones."""
    numbers = [column for column in bins if column.kind == "number"]
    kept = sorted(numbers, key=lambda column: -importance.get(column.name, 0.0))[:MOST]
    names = {column.name for column in kept}
    return tuple(column for column in numbers if column.name in names)


@dataclass(frozen=True)
class MovedPair:
    """Two columns whose relation is not what it was.

    Args:
        one: a column.
        other: another.
        before: their rank correlation in the reference.
        now: in the window.
    """

    one: str
    other: str
    before: float
    now: float


def moved_pairs(names: Sequence[str], before: Floats, now: Floats, most: int) -> tuple[MovedPair, ...]:
    """The pairs whose correlation differs most, the largest difference first."""
    one, other = np.triu_indices(len(names), 1)
    away = np.abs(now[one, other] - before[one, other])
    order = np.argsort(-away, kind="stable")[:most]
    return tuple(
        MovedPair(names[one[i]], names[other[i]], float(before[one[i], other[i]]), float(now[one[i], other[i]]))
        for i in order
    )
