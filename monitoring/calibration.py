"""Which distances are to be expected without drift, for a window of a given size at a given place of the week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins
from monitoring.profile import Histograms, ReferenceProfile
from monitoring.variation import Expected, Variation, expected, growth, variation
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]

DRAWS = 2000
# The chance asked for is a promise, and thresholds are estimates: they are set for a tenth of it.
_MARGIN = 0.1
_TAIL = 0.05
_SEED = 20_260_101
_FEWEST_INDEPENDENT = 8.0
_ROUNDED = 0.1
_MUCH = 0.2
_PER_DOUBLING = 4
EVERYWHERE = ""


@dataclass(frozen=True)
class Distance:
    """How far one column of one segment is from what is to be expected.

    Args:
        segment: its name; empty: everywhere.
        column: its name.
        value: the distance, see `ColumnBins.distance_weights`.
        rows: of the window that count.
        threshold: reached by any of all columns and segments with the probability asked for.
    """

    segment: str
    column: str
    value: float
    rows: int
    threshold: float


def distances(
    reference: ReferenceProfile, window: WindowProfile, *, false_alarms: float, min_rows: int
) -> tuple[Distance, ...]:
    """The distance of every column in every segment with enough rows, and its threshold.

    Args:
        reference: of the version.
        window: of its predictions.
        false_alarms: probability that any distance of a window without drift reaches its threshold, in (0, 1).
        min_rows: fewest rows, of reference and window alike, to compare a column.
    """
    found: list[tuple[str, ColumnBins, Expected]] = []
    for segment, ours, theirs in _scopes(reference, window):
        for column in reference.bins:
            rows = (int(side.of(column.name).sum()) for side in (ours, theirs))
            if min(rows) >= min_rows:
                at = expected(column, theirs, reference.grid, reference.first_block, ours)
                found.append((segment, column, at))
    if not found:
        return ()
    key = (_bucket(found), window.blocks, _places(window), _long_after(reference, window))
    if key not in reference.calibrated:
        reference.calibrated[key] = draw_windows(reference, window, found)
    limits = reference.calibrated[key].limits(false_alarms)
    return tuple(
        Distance(segment, column.name, _distance(column, at), at.rows, limit)
        for (segment, column, at), limit in zip(found, limits, strict=True)
    )


@dataclass(frozen=True)
class Drawn:
    """Distances of windows without drift.

    Args:
        mean: of each column's.
        sd: likewise.
        most: the largest standardised distance of each draw.
    """

    mean: Floats
    sd: Floats
    most: Floats

    def limits(self, false_alarms: float) -> tuple[float, ...]:
        """For each column, what it exceeds when the largest excess is that rare.

        Source: the exponential tail of a maximum beyond a high threshold (Pickands, 1975), so that chances are read off
        that few draws reach.
        """
        high = float(np.quantile(self.most, 1 - _TAIL))
        beyond = float((self.most[self.most > high] - high).mean())
        most = high + beyond * max(float(np.log(_TAIL / (_MARGIN * false_alarms))), 0.0)
        return tuple(float(limit) for limit in self.mean + most * self.sd)


def draw_windows(
    reference: ReferenceProfile, window: WindowProfile, compared: Sequence[tuple[str, ColumnBins, Expected]]
) -> Drawn:
    """Draw windows without drift, from which to read off what no column exceeds but with some probability.

    A drawn window deviates from the expected one by the error of sampling its rows and the reference's, and by a random
    combination of what the reference's own stretches deviate by, the same for all columns, so that columns that move
    together count as one. Few stretches say little of their spread: no column is taken to be much stiller than the
    others. The largest standardised distance over all columns corrects for their number.

    Source: the multiplier bootstrap for dependent data (Shao, 2010, "The dependent wild bootstrap"); the correction by
    the distribution of the maximum (Westfall and Young, 1993).
    """
    rng = np.random.default_rng(_SEED)
    multipliers = rng.standard_normal((DRAWS, len(reference.histograms.counts)))
    varied = [_variation(reference, window, segment, column) for segment, column, _ in compared]
    features = {column.name for column in reference.features}
    typical = [v.own for (segment, c, _), v in zip(compared, varied, strict=True) if v and c.name in features]
    usual = max(float(np.median(typical)), 0.0) if typical else 0.0
    drawn, own = [], []
    for (_, column, at), found in zip(compared, varied, strict=True):
        weights, noise = column.distance_weights, column.noise(at.values, at.error, rng, DRAWS)
        if found is not None:
            moves = multipliers[:, found.starts] @ found.beyond_sampling(usual)
            moves *= _factor(reference, window, found)
            noise += moves
            if column.name in features:
                own.append(float((np.abs(moves) @ weights).mean()))
        drawn.append(np.abs(noise) @ weights)
        if column.name not in features and own and (found is None or found.independent < _FEWEST_INDEPENDENT):
            drawn[-1] += np.quantile(own, 0.75) * np.abs(rng.standard_normal(DRAWS))
    found_distances = np.stack(drawn, axis=1)
    mean, sd = found_distances.mean(axis=0), np.maximum(found_distances.std(axis=0), 1e-9)
    return Drawn(mean, sd, ((found_distances - mean) / sd).max(axis=1))


def _variation(
    reference: ReferenceProfile, window: WindowProfile, segment: str, column: ColumnBins
) -> Variation | None:
    theirs = reference.segments[segment] if segment else reference.histograms
    return variation(column, theirs, reference.grid, reference.first_block, window.blocks)


def _factor(reference: ReferenceProfile, window: WindowProfile, found: Variation) -> float:
    """What a sum of the stretches' deviations, each times a standard normal number, is to be multiplied by.

    The mean of a window of several stretches varies less; that of a reference of few stretches has an error of its own.
    """
    within = found.blocks / max(window.blocks, found.blocks) + 1 / found.independent
    wanders = growth(found, len(reference.histograms.counts), _blocks_after(reference, window))
    return wanders * float(np.sqrt(within / len(found.starts)))


def _scopes(reference: ReferenceProfile, window: WindowProfile) -> list[tuple[str, Histograms, Histograms]]:
    everywhere = [(EVERYWHERE, window.histograms, reference.histograms)]
    return everywhere + [(name, window.segment(name), theirs) for name, theirs in reference.segments.items()]


def _distance(column: ColumnBins, at: Expected) -> float:
    away = np.abs(np.nan_to_num(at.window.values, nan=0.0) - at.values)
    there = at.window.rows > 0
    return float(away[there] @ column.distance_weights[there])


def _blocks_after(reference: ReferenceProfile, window: WindowProfile) -> float:
    if window.from_us is None or window.to_us is None:
        return 0.0
    middle = (window.from_us + window.to_us - reference.from_us - reference.to_us) / 2
    return middle / (reference.grid.block_s * 1e6)


def _long_after(reference: ReferenceProfile, window: WindowProfile) -> int:
    """How far it lies after the reference, roughly, on a scale of ratios."""
    return int(_PER_DOUBLING * np.log2(1 + abs(_blocks_after(reference, window)) / len(reference.histograms.counts)))


def _bucket(compared: Sequence[tuple[str, ColumnBins, Expected]]) -> tuple[tuple[str, str, int], ...]:
    """Sizes of windows that share their thresholds."""
    return tuple((segment, column.name, int(np.log(at.rows + 1) / _ROUNDED)) for segment, column, at in compared)


def _places(window: WindowProfile) -> tuple[bool, ...]:
    """In which cells of the grid it has a good part of its rows."""
    rows = window.counts.sum(axis=1)
    return tuple(bool(much) for much in rows > _MUCH * rows.max(initial=1))
