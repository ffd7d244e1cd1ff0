"""Windows without drift, drawn: what is to be expected of distances, of one column and of many together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins
from monitoring.profile import LABEL, RESIDUAL, ReferenceProfile
from monitoring.scores import CERTAIN, Scale, Scales, evidence
from monitoring.shrinkage import squeeze
from monitoring.variation import Expected, Variation, growth, stretch_length, variation
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

DRAWS = 2000
_SEED = 20_260_101
# The chance asked for is a promise, and thresholds are estimates: they are set for a third of it.
_MARGIN = 0.3
_TAIL = 0.05
_FEWEST_INDEPENDENT = 4.0
_OVERLAPS = 8
# What lasts for long is in the scores already, see `growth`.
_ALIKE, _ALIKE_UNKNOWN = (0.2, 0.5), 0.5
# A profile just made must judge as the same one read from its file.
_STORED_DIGITS = 4


@dataclass(frozen=True)
class Compared:
    """One column of one segment, and what the window should look like in it."""

    segment: str
    bins: ColumnBins
    at: Expected

    @property
    def away(self) -> Floats:
        """How far the window's curve is from what is expected, 0 where it has no rows, (m,)."""
        away = np.nan_to_num(self.at.window.values, nan=0.0) - self.at.values
        return np.where(self.at.window.rows > 0, away, 0.0)


@dataclass(frozen=True)
class Drawn:
    """What windows without drift come to.

    Args:
        scales: of each column compared.
        most: the strongest evidence of any group of columns, of each draw.
        alike: how the scores of windows in a row are correlated.
    """

    scales: tuple[Scales, ...]
    most: Floats
    alike: float

    def limit(self, false_alarms: float) -> float:
        """The evidence that is exceeded that rarely.

        Source: the exponential tail of a maximum beyond a high threshold (Pickands, 1975), so that chances are read off
        that few draws reach.
        """
        high = float(np.quantile(self.most, 1 - _TAIL))
        beyond = float((self.most[self.most > high] - high).mean())
        return high + beyond * max(float(np.log(_TAIL / (_MARGIN * false_alarms))), 0.0)


def draw_windows(
    reference: ReferenceProfile, window: WindowProfile, compared: Sequence[Compared], groups: Sequence[Sequence[int]]
) -> Drawn:
    """Draw windows without drift, from which to read off what no column exceeds but with some probability.

    A drawn window deviates from the expected one by the error of sampling its rows and the reference's, correlated as
    the features are, and by what one of the reference's own stretches deviates by, smoothed with a random combination
    of all of them: the same for all columns, so that columns that move together count as one. Few stretches say little
    of their spread: it is drawn, too, from what they and the other columns' leave possible.

    Args:
        reference: of the version.
        window: of its predictions.
        compared: the columns.
        groups: which of them are judged together.

    Source: the smoothed bootstrap (Silverman and Young, 1987) of moving blocks (Künsch, 1989), smoothed with a
    multiplier bootstrap for dependent data (Shao, 2010); the correction by the distribution of the maximum (Westfall
    and Young, 1993); correlation by ranks (Iman and Conover, 1982).
    """
    rng = np.random.default_rng(_SEED)
    stretches = _Stretches(
        rng, len(reference.histograms.counts), stretch_length(len(reference.histograms.counts), window.blocks)
    )
    scales, scores = [], np.empty((DRAWS, len(compared)))
    varied = [_variation(reference, window, each) for each in compared]
    spreads, freedom = _spreads(compared, varied, rng)
    order = _correlated(reference, compared, rng)
    features = {column.name for column in reference.features}
    normal: dict[str, Singles] = {}
    own: list[float] = []
    labels: dict[str, float] = {}
    for i, (each, found) in enumerate(zip(compared, varied, strict=True)):
        column = each.bins
        if column.name not in normal:  # segments are few enough to share a column's
            normal[column.name] = rng.standard_normal((DRAWS, column.size), dtype=np.float32)
        away = column.noise(each.at.values, each.at.error, normal[column.name])
        away = away[np.argsort(away @ _single(column.shift_weights), kind="stable")[order[i]]]
        df = CERTAIN
        if found is not None:
            away *= _single(found.share(spreads[i]))[:, None]
            moves = stretches.combined(found)
            moves *= _single(_factor(reference, window, found) * found.scale(spreads[i]) / np.sqrt(2))[:, None]
            away += moves
            # of a sum of a normal and a Student number, by the share of its variance that is the latter's
            unsure_part = _power(moves, column) / max(_power(away, column), 1e-30)
            df = min(freedom[i] / max(unsure_part, 1e-3) ** 2, CERTAIN)
            if column.name in features:
                own.append(float((np.abs(moves) @ _single(column.distance_weights)).mean()))
            elif column.name == LABEL and found.independent >= _FEWEST_INDEPENDENT:
                labels[each.segment] = float((np.abs(moves) @ _single(column.distance_weights)).mean())
        unsure = np.zeros(DRAWS)
        if column.name not in features and own and (found is None or found.independent < _FEWEST_INDEPENDENT):
            # labels given the score wander no more than labels do, which are known better than scores
            like = labels.get(each.segment) if column.name == RESIDUAL else None
            wanders = float(np.quantile(own, 0.75)) if like is None else like / column.scale
            unsure = wanders * np.abs(rng.standard_normal(DRAWS))
        scale, scores[:, i] = _scaled(column, away, unsure, df)
        scales.append(scale)
    most = np.max([evidence(scores[:, list(group)]) for group in groups], axis=0)
    return Drawn(tuple(scales), most, _alike([found for found in varied if found is not None]))


def _alike(varied: Sequence[Variation]) -> float:
    """Of all columns together: of one, few stretches say too little."""
    known = [found.alike for found in varied if found.alike is not None]
    return float(np.clip(np.mean(known), *_ALIKE)) if known else _ALIKE_UNKNOWN


class _Stretches:
    """A random combination of the stretches of a reference, and one of them, of each draw.

    Args:
        rng: where from.
        blocks: of the reference.
        length: blocks of a stretch. Of those that begin within an eighth of it one stands for all.
    """

    def __init__(self, rng: np.random.Generator, blocks: int, length: int) -> None:
        self._multipliers = rng.standard_normal((DRAWS, blocks))
        self._picked = rng.integers(0, blocks - length + 1, DRAWS)
        self._step = max(1, length // _OVERLAPS)
        self._weights: dict[bytes, Singles] = {}

    def combined(self, found: Variation) -> Singles:
        """Their deviations, the two added, (draws, m); each has the variance of a stretch."""
        starts = found.starts[:: self._step]
        key = starts.tobytes()
        if key not in self._weights:
            weights = self._multipliers[:, starts] / np.sqrt(len(starts))
            weights[np.arange(DRAWS), np.searchsorted(starts[1:], self._picked, side="right")] += 1.0
            self._weights[key] = _single(weights)
        return self._weights[key] @ _single(found.deviations[:: self._step])


def _single(values: Floats) -> Singles:
    return values.astype(np.float32)


def _power(away: Singles, column: ColumnBins) -> float:
    return float((away**2).mean(axis=0) @ column.distance_weights)


def _scaled(column: ColumnBins, away: Singles, unsure: Floats, df: float) -> tuple[Scales, Floats]:
    """What makes differences of the column's curve comparable, and the scores of those drawn, (draws,)."""
    sizes = np.abs(away) @ _single(column.distance_weights) + unsure
    distance, shift = Scale.of(sizes), None
    found = distance.score(sizes)
    if column.kind != "code":
        shifts = np.abs(away @ _single(column.shift_weights)) + unsure
        shift = Scale.of(shifts)
        found = np.maximum(found, shift.score(shifts))
    larger = Scale.of(found, df)
    return Scales(distance, shift, larger), larger.score(found)


def _variation(reference: ReferenceProfile, window: WindowProfile, each: Compared) -> Variation | None:
    theirs = reference.segments[each.segment] if each.segment else reference.histograms
    return variation(each.bins, theirs, reference.grid, reference.first_block, window.blocks)


def _spreads(
    compared: Sequence[Compared], varied: Sequence[Variation | None], rng: np.random.Generator
) -> tuple[list[Floats], list[float]]:
    """The variance each column's stretches may have, sampling included, of each draw; and its degrees of freedom.

    Columns of one segment lend each other certainty, codes and others apart: what moves a quantity moves the shares of
    codes less.
    """
    found, certain = [np.zeros(DRAWS) for _ in compared], [CERTAIN for _ in compared]
    for alike in dict.fromkeys(_likeness(each) for each in compared):
        own = [i for i, each in enumerate(compared) if _likeness(each) == alike and varied[i] is not None]
        known = [v for i in own if (v := varied[i]) is not None]
        df = np.array([max(v.independent - 1, 1.0) for v in known])
        seen, df = squeeze(np.array([v.seen for v in known]), df)
        for i, variance, freedom in zip(own, seen, df, strict=True):
            found[i], certain[i] = variance * freedom / rng.chisquare(freedom, DRAWS), float(freedom)
    return found, certain


def _likeness(each: Compared) -> tuple[str, bool]:
    return each.segment, each.bins.kind == "code"


def _correlated(
    reference: ReferenceProfile, compared: Sequence[Compared], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """The rank of each draw of each column, correlated within a segment as the features are."""
    together = np.round(np.nan_to_num(reference.correlations), _STORED_DIGITS)
    names = reference.related or [column.name for column in reference.features]  # earlier releases: of all features
    places = {name: i for i, name in enumerate(names)} if len(names) == len(together) else {}
    values, vectors = np.linalg.eigh(together) if len(together) else (np.zeros(0), np.zeros((0, 0)))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T  # the one root that changes little with them
    drawn = {s: rng.standard_normal((DRAWS, len(root))) @ root.T for s in dict.fromkeys(c.segment for c in compared)}
    found = []
    for each in compared:
        place = places.get(each.bins.name)
        normal = drawn[each.segment][:, place] if place is not None else rng.standard_normal(DRAWS)
        normal = normal + 1e-9 * rng.standard_normal(DRAWS)  # a column that never moves has ties
        found.append(np.argsort(np.argsort(normal)))
    return found


def _factor(reference: ReferenceProfile, window: WindowProfile, found: Variation) -> float:
    """What a stretch's deviation is to be multiplied by to be a window's.

    The mean of a window of several stretches varies less; that of a reference of few stretches has an error of its own.
    """
    within = found.blocks / max(window.blocks, found.blocks) + 1 / found.independent
    wanders = growth(found, len(reference.histograms.counts), blocks_after(reference, window))
    return wanders * float(np.sqrt(within))


def blocks_after(reference: ReferenceProfile, window: WindowProfile) -> float:
    """How much later than the middle of the reference that of the window is."""
    if window.from_us is None or window.to_us is None:
        return 0.0
    middle = (window.from_us + window.to_us - reference.from_us - reference.to_us) / 2
    return middle / (reference.grid.block_s * 1e6)
