"""Columns that are swapped: each looks like the other did, or stands to all others as the other did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from monitoring.facts import Fault
from monitoring.profile import ReferenceProfile
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]

_SEEN_TWICE = 2.0
_FITS, _APART, _NEAR = 0.25, 0.25, 0.15
# What relations say, the columns' own values must say as well, if less clearly: chance does not make up both.
_LEANS, _CROSSED, _SURE = 0.7, 0.6, 20.0


def find_swaps(
    reference: ReferenceProfile, window: WindowProfile, apart: Floats, moved: Mapping[str, float]
) -> Iterator[Fault]:
    """Pairs of features that seem to be swapped.

    Args:
        reference: of the version that answered.
        window: of its predictions.
        apart: `monitoring.magnitudes.gaps` of the window's features and the reference's.
        moved: of each column, its distance over its threshold.
    """
    own = np.diag(apart)
    better = (apart <= _FITS * own[:, None]) & (apart <= _NEAR) & (own >= _APART)[:, None]
    names = [column.name for column in reference.features]
    pairs = {
        (names[i], names[j])
        for i, j in np.argwhere(better & better.T)
        if i < j and min(moved.get(names[i], 0.0), moved.get(names[j], 0.0)) >= _SEEN_TWICE
    }
    for one, other in sorted(pairs):
        yield Fault(
            column=f"{one}, {other}", kind="swapped",
            detail=f"{one} looks like {other} did, and {other} like {one}",
        )  # fmt: skip
    place = {name: i for i, name in enumerate(names)}
    for one, other in _by_relations(reference, window):
        i, j = place[one], place[other]
        crossed, straight = apart[i, j] + apart[j, i], apart[i, i] + apart[j, j]
        if (one, other) not in pairs and straight >= _APART and crossed <= _LEANS * straight:
            yield Fault(
                column=f"{one}, {other}", kind="swapped",
                detail=f"{one} stands to the other columns as {other} did, and {other} as {one}",
            )  # fmt: skip


def _by_relations(reference: ReferenceProfile, window: WindowProfile) -> Iterator[tuple[str, str]]:
    """Pairs of columns whose rank correlations with all others are each other's.

    Correlations of n rows have variances of about 1/n, so the sum of squared differences times n tells how likely they
    are: those of the columns crossed must be much likelier than as they are, and fit much better.
    """
    names, before, now = reference.related, reference.correlations, window.ranks.correlations
    rows = window.ranks.rows
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            others = [k for k in range(len(names)) if k not in (i, j)]
            straight = float(((now - before)[np.ix_([i, j], others)] ** 2).sum())
            crossed = float(((now[[j, i]] - before[[i, j]])[:, others] ** 2).sum())
            if crossed <= _CROSSED * straight and rows * (straight - crossed) >= _SURE:
                yield names[i], names[j]
