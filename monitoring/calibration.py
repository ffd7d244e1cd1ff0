"""Which columns of a window are further from the reference than windows without drift are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from monitoring.drawn import Compared, Drawn, blocks_after, draw_windows
from monitoring.facts import Kind
from monitoring.profile import EVERYWHERE, LABEL, RESIDUAL, SCORE, Histograms, ReferenceProfile
from monitoring.scores import evidence
from monitoring.variation import expected
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]

# Of the columns named where something did move, how many may be wrong.
_FALSE_NAMES = 0.1
_KIND_OF: dict[str, Kind] = {SCORE: "prediction", LABEL: "label", RESIDUAL: "concept"}
_ROUNDED = 0.1
_MUCH = 0.2
_PER_DOUBLING = 4


def kind_of(column: str) -> Kind:
    """Which kind of drift it is when a column moves."""
    return _KIND_OF.get(column, "data")


@dataclass(frozen=True)
class Distance:
    """How far one column of one segment is from what is to be expected.

    Args:
        segment: its name; empty: everywhere.
        column: its name.
        value: the distance, see `ColumnBins.distance_weights`.
        rows: of the window that count.
        limit: the distance that by itself raises an alarm.
        threshold: the distance from which on it is named, not above `limit`.
        score: how far out of the ordinary the distance is, in standard deviations of a normal number.
        over: whether its group is raised, and it is named.
    """

    segment: str
    column: str
    value: float
    rows: int
    limit: float
    threshold: float
    score: float
    over: bool


@dataclass(frozen=True)
class Distances:
    """Those of one window.

    Args:
        columns: of each column in every segment.
        limit: the evidence of several columns beyond which they raise an alarm together.
        alike: how the scores of windows in a row are correlated where nothing moves.
    """

    columns: tuple[Distance, ...] = ()
    limit: float = 0.0
    alike: float = 0.5


def distances(
    reference: ReferenceProfile,
    window: WindowProfile,
    *,
    false_alarms: float,
    min_rows: int,
) -> Distances:
    """The distance of every column in every segment with enough rows, and which of them moved.

    The columns of a segment and a kind are a group. Groups are raised by what their columns say together, with one
    limit for all groups. In a raised group those are named of which a tenth is expected to be wrong.

    Args:
        reference: of the version.
        window: of its predictions.
        false_alarms: probability that any group of a window without drift is raised, in (0, 1).
        min_rows: fewest rows, of reference and window alike, to compare a column.

    Source: Benjamini and Hochberg (1995) for who is named.
    """
    found: list[Compared] = []
    for segment, ours, theirs in _scopes(reference, window):
        for column in reference.bins:
            rows = (int(side.of(column.name).sum()) for side in (ours, theirs))
            if min(rows) >= min_rows:
                at = expected(column, theirs, reference.grid, reference.first_block, ours)
                found.append(Compared(segment, column, at))
    if not found:
        return Distances()
    groups: dict[tuple[str, str], list[int]] = {}
    for i, each in enumerate(found):
        groups.setdefault((each.segment, kind_of(each.bins.name)), []).append(i)
    key = (_bucket(found), window.blocks, _places(window), _long_after(reference, window))
    if key not in reference.calibrated:
        reference.calibrated[key] = draw_windows(reference, window, found, list(groups.values()))
    return _judged(found, list(groups.values()), reference.calibrated[key], false_alarms)


def _judged(found: Sequence[Compared], groups: Sequence[Sequence[int]], drawn: Drawn, false_alarms: float) -> Distances:
    limit = drawn.limit(false_alarms)
    scores = np.array([float(s.score(c.away, c.bins)) for c, s in zip(found, drawn.scales, strict=True)])
    raised = [group for group in groups if evidence(scores[list(group)]) > limit]
    named = sorted({i for group in raised for i in group}, key=lambda i: -scores[i])
    level = least_score(scores[named]) if named else limit
    judged = []
    for i, (each, scales) in enumerate(zip(found, drawn.scales, strict=True)):
        value = float(np.abs(each.away) @ each.bins.distance_weights)
        alone, needed = (scales.distance_at(score, each.away, each.bins) for score in (limit, min(level, limit)))
        over = i in named and bool(scores[i] >= level)
        judged.append(
            Distance(each.segment, each.bins.name, value, each.at.rows, alone, needed, float(scores[i]), over)
        )
    return Distances(tuple(judged), limit, drawn.alike)


def least_score(scores: Floats) -> float:
    """From which score on columns are named, of those of some columns of which at least one moved, n > 0.

    Example:
        >>> bool(least_score(np.array([5.0, 4.0, 0.5, 0.1])) < 4.0)
        True
    """
    ordered = np.sort(scores)[::-1]
    allowed = _FALSE_NAMES * np.arange(1, ordered.size + 1) / ordered.size
    passed = np.flatnonzero(2 * ndtr(-ordered) <= allowed)
    if not passed.size:
        return float(ordered[0])
    return min(float(-ndtri(allowed[passed[-1]] / 2)), float(ordered[0]))


def _scopes(reference: ReferenceProfile, window: WindowProfile) -> list[tuple[str, Histograms, Histograms]]:
    everywhere = [(EVERYWHERE, window.histograms, reference.histograms)]
    return everywhere + [(name, window.segment(name), theirs) for name, theirs in reference.segments.items()]


def _long_after(reference: ReferenceProfile, window: WindowProfile) -> int:
    """How far it lies after the reference, roughly, on a scale of ratios."""
    return int(_PER_DOUBLING * np.log2(1 + abs(blocks_after(reference, window)) / len(reference.histograms.counts)))


def _bucket(compared: Sequence[Compared]) -> tuple[tuple[str, str, int], ...]:
    """Sizes of windows that share their thresholds."""
    return tuple((each.segment, each.bins.name, int(np.log(each.at.rows + 1) / _ROUNDED)) for each in compared)


def _places(window: WindowProfile) -> tuple[bool, ...]:
    """In which cells of the grid it has a good part of its rows."""
    rows = window.counts.sum(axis=1)
    return tuple(bool(much) for much in rows > _MUCH * rows.max(initial=1))
