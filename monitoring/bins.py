"""Bins of a column, fixed from its reference, and what two histograms on them differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_BINS = 40
_TAIL = (0.001, 0.005, 0.995, 0.999)
_MAX_CODES = 30
# Outliers must decide neither the unit of distances nor, by the width of the last bin, the distance itself.
_CLIP = (0.005, 0.995)
_WIDEST_SD = 1.0
_OUTSIDE_SD = 1.0
_CALIBRATION_ROWS = 50


@dataclass(frozen=True)
class Curve:
    """A histogram as the numbers that are compared.

    Args:
        values: shares in [0, 1], shape (…, m): of a quantity the distribution function at its edges and the share of
            nulls; of codes the share of each; of calibration the share of positive labels by score.
        rows: rows behind each, shape (…, m); a share has the variance value (1 - value) / rows.
    """

    values: Floats
    rows: Floats


@dataclass(frozen=True)
class ColumnBins:
    """How one column is counted.

    Bins of a number: below the reference, its smallest value, between its quantiles, above it, null. Bins of a code:
    the most frequent ones, any other, null. Bins of a calibration: each bin of the score, label 0 and label 1.

    Args:
        name: of the column.
        kind: ``number``, ``code`` or ``calibration``.
        edges: upper ends of the bins, or the codes, ascending; float32.
        scale: of a number, its standard deviation without outliers; of a calibration, that of the label.
        weights: of a calibration, the share of each score bin in the reference.

    Example:
        >>> bins = ColumnBins.of_numbers("fare", np.arange(100, dtype=np.float32))
        >>> int(bins.index(np.array([np.nan], dtype=np.float32))[0]) == bins.size - 1
        True
    """

    name: str
    kind: Literal["number", "code", "calibration"]
    edges: tuple[float, ...]
    scale: float = 1.0
    weights: tuple[float, ...] = ()

    @classmethod
    def of_numbers(cls, name: str, values: npt.NDArray[np.float32]) -> ColumnBins:
        """Bins between quantiles of a reference, shape (n,), NaN for null."""
        known = values[np.isfinite(values)]
        if not known.size:
            return cls(name, "number", (0.0,))
        steps = np.unique(np.r_[np.linspace(0, 1, _BINS + 1), _TAIL])
        distinct = np.unique(known[:: max(1, known.size // 10_000)])
        cuts = np.quantile(known, steps, method="lower")
        if distinct.size <= _BINS:
            cuts = np.r_[cuts, distinct]
        cuts = np.unique(cuts.astype(np.float32))
        below = np.nextafter(cuts[0], np.float32(-np.inf))
        low, high = np.quantile(known, _CLIP)
        scale = float(np.clip(known.astype(np.float64), low, high).std())
        usual = scale or float(known.astype(np.float64).std()) or max(abs(float(cuts[0])), 1.0)
        return cls(name, "number", (float(below), *(float(cut) for cut in cuts)), usual)

    @classmethod
    def of_codes(cls, name: str, values: npt.NDArray[np.float32]) -> ColumnBins:
        """A bin for each of the most frequent codes of a reference, shape (n,), NaN for null."""
        found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
        kept = np.sort(found[np.argsort(-counts, kind="stable")[:_MAX_CODES]])
        return cls(name, "code", tuple(float(code) for code in kept))

    @classmethod
    def of_calibration(cls, name: str, scores: Sequence[float] | npt.NDArray[Any], label_sd: float) -> ColumnBins:
        """Bins of equal rows of the labelled scores, shape (n,)."""
        known = np.asarray(scores, dtype=np.float32)
        bins = int(np.clip(known.size // _CALIBRATION_ROWS, 1, 10))
        steps = np.linspace(0, 1, bins + 1)[1:-1]
        if known.size >= 20 * _CALIBRATION_ROWS:
            steps = np.unique(np.r_[0.05, steps, 0.95])
        cuts = np.unique(np.quantile(known, steps, method="lower")) if bins > 1 else ()
        edges = np.asarray(cuts, dtype=np.float32)
        share = np.bincount(np.searchsorted(edges, known), minlength=edges.size + 1) / known.size
        return cls(name, "calibration", tuple(map(float, edges)), label_sd or 1.0, tuple(map(float, share)))

    @property
    def size(self) -> int:
        """How many bins."""
        return {"number": len(self.edges) + 2, "code": len(self.edges) + 2}.get(self.kind, 2 * (len(self.edges) + 1))

    @cached_property
    def _edges(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.edges, dtype=np.float32)

    def index(self, values: npt.NDArray[np.float32], labels: npt.NDArray[np.float32] | None = None) -> Ints:
        """The bin of each value, shape (n,); `labels` (0 or 1) count for a calibration only."""
        place = np.searchsorted(self._edges, values).astype(np.int64)
        if self.kind == "calibration":
            assert labels is not None
            return 2 * place + (labels > 0)
        if self.kind == "code":
            inside = np.minimum(place, len(self.edges) - 1)
            known = self._edges[inside] == values if self.edges else np.zeros(values.shape, dtype=bool)
            place = np.where(known, place, len(self.edges))
        place[np.isnan(values)] = self.size - 1
        return place

    def curve(self, counts: npt.NDArray[Any]) -> Curve:
        """What is compared of histograms, shape (…, size); NaN where there are no rows."""
        counts = np.asarray(counts, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.kind == "calibration":
                rows = counts[..., 0::2] + counts[..., 1::2]
                return Curve(counts[..., 1::2] / rows, rows)
            total = counts.sum(axis=-1, keepdims=True)
            if self.kind == "code":
                return Curve(counts / total, np.broadcast_to(total, counts.shape))
            known = total - counts[..., -1:]
            below = np.cumsum(counts[..., :-2], axis=-1) / known
            rows = np.concatenate([np.broadcast_to(known, below.shape), total], axis=-1)
            return Curve(np.concatenate([below, counts[..., -1:] / total], axis=-1), rows)

    @cached_property
    def distance_weights(self) -> Floats:
        """What a difference of each number of two curves adds to their distance, shape (m,).

        Numbers: the Wasserstein distance in standard deviations (the area between the distribution functions) and the
        difference of the null shares. Codes: total variation. Calibration: the mean difference of the positive share
        given the score, in standard deviations of the label.

        Source: Vallender (1974) for the area; the sum runs over the edges by the trapezoid rule.
        """
        if self.kind == "code":
            return np.full(self.size, 0.5)
        if self.kind == "calibration":
            return np.asarray([weight / self.scale for weight in self.weights], dtype=np.float64)
        edges = np.asarray(self.edges, dtype=np.float64) / self.scale
        steps = np.minimum(np.diff(edges), _WIDEST_SD)
        return np.asarray(np.r_[(np.r_[_OUTSIDE_SD, steps] + np.r_[steps, _OUTSIDE_SD]) / 2, 1.0])

    @cached_property
    def shift_weights(self) -> Floats:
        """What a difference of each number of two curves, its sign kept, adds to how far the column has gone up, (m,).

        Numbers: the difference of means, in standard deviations. Calibration: that of the positive shares given the
        score, in those of the label. Codes go nowhere, but are taken as the numbers they are, so that what is
        correlated is drawn so.
        """
        if self.kind == "code":
            return np.asarray([*self.edges, 0.0, 0.0], dtype=np.float64)
        if self.kind == "calibration":
            return self.distance_weights
        return np.append(-self.distance_weights[:-1], 0.0)

    def noise(self, values: Floats, error: Floats, normal: Singles) -> Singles:
        """Errors of a curve by the sampling of rows, (draws, m).

        Args:
            values: of the curve, (m,).
            error: one over the rows behind each, (m,).
            normal: standard normal numbers, (draws, `size`).

        Source: the multinomial as Poisson counts given their sum, these by Cornish and Fisher (1938) to the third
        moment: in skewed columns, and for few rows, the normal limit has too short a tail.
        """
        values = np.clip(values, 0.0, 1.0)
        if self.kind == "calibration":
            return _single(np.sqrt(values * (1 - values) * error)) * normal[:, : values.size]
        if self.kind == "code":
            shares = values / max(float(values.sum()), 1e-12)
            walk = _poisson(shares, float(error.max()), normal)
            return np.asarray(walk - _single(shares) * walk.sum(axis=1, keepdims=True))
        below, null = np.maximum.accumulate(values[:-1]), float(values[-1])
        steps = np.maximum(np.diff(np.r_[0.0, below, 1.0]), 0.0)
        walk = _poisson(steps, float(error[:-1].max()), normal[:, :-1])
        walk = np.cumsum(walk, axis=1)
        bridge = walk[:, :-1] - _single(below) * walk[:, -1:]
        nulls = np.float32(np.sqrt(null * (1 - null) * error[-1])) * normal[:, -1:]
        return np.concatenate([bridge, nulls], axis=1)


def _single(values: Floats) -> Singles:
    return values.astype(np.float32)


def _poisson(shares: Floats, error: float, normal: Singles) -> Singles:
    """Errors of shares that are Poisson counts over 1 / `error` rows, (draws, m)."""
    filled = shares > 0
    found = normal * _single(np.sqrt(shares * error))
    found += (normal * normal - 1) * _single(np.where(filled, error / 6, 0.0))
    return found
