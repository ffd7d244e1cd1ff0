"""The reference profile: all that watching needs to know of the rows a version was made on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.segments import Cut
from monitoring.bins import ColumnBins
from monitoring.ranks import ranks_of
from monitoring.seasons import Grid

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCORE, LABEL, RESIDUAL = "score", "label", "residual"
EVERYWHERE = ""
"""The segment of all rows."""
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Histograms:
    """Counts of all columns, one row of counts for each slice of time.

    Args:
        bins: of each column, in order.
        counts: (slices, sum of the bins' sizes).
    """

    bins: tuple[ColumnBins, ...]
    counts: Ints

    @cached_property
    def places(self) -> dict[str, slice]:
        """Which of the counts are a column's."""
        ends = np.cumsum([column.size for column in self.bins])
        return {c.name: slice(int(end) - c.size, int(end)) for c, end in zip(self.bins, ends, strict=True)}

    def of(self, name: str) -> Ints:
        """Counts of one column, (slices, bins)."""
        return self.counts[:, self.places[name]]


@dataclass(frozen=True)
class Summary:
    """A column of a reference as people want to see it.

    Args:
        mean: NaN if there is no value; so are the others.
        sd: standard deviation.
        nulls: share of them, in [0, 1].
        quantiles: at `QUANTILES`.
    """

    mean: float
    sd: float
    nulls: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class SegmentQuality:
    """How a version did on one segment of its holdout: rows, mean negative log-likelihood in nats, positive share."""

    rows: int
    log_loss: float
    base_rate: float


@dataclass(frozen=True)
class ReferenceProfile:
    """What the rows a version was made on look like, and how much that varies from one block of time to the next.

    Args:
        grid: the blocks.
        first_block: the earliest; the rows of counts follow without gaps.
        histograms: of all rows, by block; features, then ``score``, ``label`` and ``residual`` where there are any.
        segments: the same of each segment, by name.
        cuts: what makes them, by column.
        summaries: by column.
        correlations: of the ranks of the columns `related`, (related, related); nulls count as the middle.
        related: quantities among the features, the most important ones; none in profiles of earlier releases.
        importance: of the features, in [0, 1], summing to 1; empty if unknown.
        quality: of each segment with labels and scores, and of all rows under the empty name.
        magnitudes: of the features, (features, magnitudes.SIZE).
        longest_streaks: of each feature, the most consecutive rows with one value.
        rows: how many.
        from_us: of the first row, microseconds since 1970.
        to_us: of the last row.
        longest_gap_s: between two consecutive rows.
        pauses_s: of each event source, the longest time without any; sources left out are not known.
        calibrated: thresholds found so far; not part of what it is.
    """

    grid: Grid
    first_block: int
    histograms: Histograms
    segments: Mapping[str, Histograms]
    summaries: Mapping[str, Summary]
    correlations: Floats
    importance: Mapping[str, float]
    quality: Mapping[str, SegmentQuality]
    magnitudes: Ints
    longest_streaks: Ints
    rows: int
    from_us: int
    to_us: int
    longest_gap_s: float
    cuts: tuple[Cut, ...] = ()
    related: tuple[str, ...] = ()
    pauses_s: Mapping[str, float] = field(default_factory=dict)
    calibrated: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def bins(self) -> tuple[ColumnBins, ...]:
        """How each column is counted."""
        return self.histograms.bins

    @cached_property
    def features(self) -> tuple[ColumnBins, ...]:
        """Those of the features alone."""
        return tuple(column for column in self.bins if column.name not in (SCORE, LABEL, RESIDUAL))

    @cached_property
    def related_bins(self) -> tuple[ColumnBins, ...]:
        """Those of the columns `related`."""
        return tuple(column for column in self.bins if column.name in self.related)

    @cached_property
    def ranks(self) -> tuple[Floats, ...]:
        """Of the bins of the columns `related`."""
        return tuple(ranks_of(self.histograms.of(name).sum(axis=0)) for name in self.related)
