"""Faults of features: nulls, another unit, a value that stays, categories gone or flooding in, columns swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins
from monitoring.calibration import Distance
from monitoring.facts import Fault
from monitoring.magnitudes import best_scale, gaps
from monitoring.profile import EVERYWHERE, ReferenceProfile
from monitoring.swaps import find_swaps
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]

_SURE_SE = 5.0
_NULLS, _FLOOD = 0.02, 0.05
_EXPECTED_ROWS = 20
# A column of few values has no shape by which to know a change of scale.
_FEWEST_MAGNITUDES = 8
_SEEN_TWICE = 2.0
_FITS = 0.25
_ALIKE = 0.3
_STREAK_TIMES, _STREAK_ROWS = 3.0, 100
# How quantities are written otherwise: decimal prefixes and percents, time, length, mass, volume, speed.
_RATIOS = (10, 100, 1e3, 1e4, 1e6, 1e9, 7, 12, 24, 60, 3600, 86400, 1440, 1.609, 3.281, 2.54, 25.4, 2.205, 28.35, 3.785,
           3.6, 1.852, 57.3, 1024)  # fmt: skip
_RATIO_OCTAVES = 2 / 16
# The smallest of them, less what may be left, cannot move a column by less: log2(1.609) - 2/16 - a quarter of it.
_FEWEST_OCTAVES = 0.4


def find_column_faults(
    reference: ReferenceProfile, window: WindowProfile, compare: Callable[[], Sequence[Distance]]
) -> tuple[Fault, ...]:
    """What is wrong with the features of a window.

    Args:
        reference: of the version that answered.
        window: of its predictions.
        compare: gives distances and rare limits of its columns; asked only where a column looks changed, for
            limits are what takes time.
    """

    @cache
    def moved() -> Mapping[str, float]:
        compared = (found for found in compare() if found.segment == EVERYWHERE)
        return {found.column: found.value / max(found.limit, 1e-9) for found in compared}

    apart = gaps(window.magnitudes, reference.magnitudes)
    swapped = list(find_swaps(reference, window, apart, moved))
    named = {name for fault in swapped for name in fault.column.split(", ")}
    others = (*_nulls(reference, window), *_stuck(reference, window), *_categories(reference, window))
    rescaled = [fault for fault in _units(reference, window, apart, moved) if fault.column not in named]
    return (*swapped, *rescaled, *others)


def _nulls(reference: ReferenceProfile, window: WindowProfile) -> Iterator[Fault]:
    for column in reference.features:
        rows, usual = _rows(window, column), _usual(reference, column, window.blocks).nulls
        share = rows[-1] / rows.sum()
        if share - usual > _NULLS + _SURE_SE * _error(usual, int(rows.sum())):
            gone = " (the column is not there)" if column.name in window.missing else ""
            yield Fault(
                column=column.name, kind="nulls", detail=f"{share:.1%} nulls{gone}, where {usual:.1%} were the most"
            )


def _stuck(reference: ReferenceProfile, window: WindowProfile) -> Iterator[Fault]:
    if window.streaks is None:
        return
    # twice the traffic makes runs twice as long in any column that changes with time
    busier = max(1.0, _rate(window.rows, window) / _rate(reference.rows, reference))
    for i, column in enumerate(reference.features):
        usual, longest = float(reference.longest_streaks[i]) * busier, int(window.streaks.longest[i])
        varied = reference.longest_streaks[i] < reference.rows / 2
        if varied and longest > max(_STREAK_TIMES * usual, usual + _STREAK_ROWS):
            value = float(window.streaks.value[i])
            yield Fault(
                column=column.name,
                kind="stuck",
                detail=f"{longest} rows in a row are {value:g}, where {usual:.0f} would be the most",
            )


def _categories(reference: ReferenceProfile, window: WindowProfile) -> Iterator[Fault]:
    for column in reference.features:
        if column.kind != "code":
            continue
        rows, before = _rows(window, column), _usual(reference, column, window.blocks)
        total = int(rows.sum())
        for i, code in enumerate(column.edges):
            fewest = before.fewest[i]
            if rows[i] == 0 and fewest * total >= _EXPECTED_ROWS:
                yield Fault(
                    column=column.name,
                    kind="category gone",
                    detail=f"{code:g} is gone, where it made {fewest:.1%} of the rows at least",
                )
        usual, share = before.unknown, rows[-2] / total
        if share - usual > _FLOOD + _SURE_SE * _error(usual, total):
            yield Fault(
                column=column.name,
                kind="category new",
                detail=f"{share:.1%} unknown codes, where {usual:.1%} were most",
            )


def _units(
    reference: ReferenceProfile, window: WindowProfile, apart: Floats, moved: Callable[[], Mapping[str, float]]
) -> Iterator[Fault]:
    for i, column in enumerate(reference.features):
        ours, theirs = window.magnitudes[i], reference.magnitudes[i]
        shaped = min((ours > 0).sum(), (theirs > 0).sum()) >= _FEWEST_MAGNITUDES
        if column.kind != "number" or not shaped or apart[i, i] < _FEWEST_OCTAVES:
            continue
        scale, left = best_scale(ours, theirs)
        off = min(abs(abs(float(np.log2(scale))) - float(np.log2(ratio))) for ratio in _RATIOS)
        fits = off <= _RATIO_OCTAVES and left <= _FITS * apart[i, i] and left <= _ALIKE
        if fits and moved().get(column.name, 0.0) >= _SEEN_TWICE:
            yield Fault(
                column=column.name,
                kind="unit",
                detail=f"the values look like those of the reference times {scale:.3g}: another unit",
            )


def _rows(window: WindowProfile, column: ColumnBins) -> npt.NDArray[np.int64]:
    return np.asarray(window.histograms.of(column.name).sum(axis=0), dtype=np.int64)


@dataclass(frozen=True)
class _Usual:
    """Shares of a column's rows in the reference's stretches: most nulls, most unknown codes, fewest of each code."""

    nulls: float
    unknown: float
    fewest: tuple[float, ...]


def _usual(reference: ReferenceProfile, column: ColumnBins, blocks: int) -> _Usual:
    """Found once for all windows of a length."""
    key = ("usual", column.name, blocks)
    if key not in reference.calibrated:
        theirs = _stretches(reference, column, blocks)
        totals = theirs.sum(axis=1)
        fewest = (theirs / np.maximum(totals, 1)[:, None]).min(axis=0)[:-2] if column.kind == "code" else ()
        reference.calibrated[key] = _Usual(
            _most(theirs[:, -1], totals), _most(theirs[:, -2], totals), tuple(float(share) for share in fewest)
        )
    found: _Usual = reference.calibrated[key]
    return found


def _stretches(reference: ReferenceProfile, column: ColumnBins, blocks: int) -> npt.NDArray[np.int64]:
    """Counts of the reference's stretches of the window's length, (stretches, bins), those with few rows left out."""
    counts = reference.histograms.of(column.name)
    length = max(1, min(blocks, len(counts) // 2))
    sums = np.cumsum(np.vstack([np.zeros((1, counts.shape[1]), dtype=np.int64), counts]), axis=0)
    found = sums[length:] - sums[:-length]
    rows = found.sum(axis=1)
    return np.asarray(found[rows >= max(1, np.median(rows) / 2)], dtype=np.int64)


def _most(counts: npt.NDArray[np.int64], totals: npt.NDArray[np.int64]) -> float:
    return float((counts / np.maximum(totals, 1)).max(initial=0.0))


def _error(share: float, rows: int) -> float:
    """Standard error of a share, not trusted to be less than that of a share of 1 in 100."""
    kept = min(max(share, 0.01), 0.5)
    return float(np.sqrt(kept * (1 - kept) / rows))


def _rate(rows: int, seen: ReferenceProfile | WindowProfile) -> float:
    return rows / max((seen.to_us or 0) - (seen.from_us or 0), 1)
