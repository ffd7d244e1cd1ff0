"""Columns that are swapped: each looks like the other did, or stands to all others as the other did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
    reference: ReferenceProfile, window: WindowProfile, apart: Floats, moved: Callable[[], Mapping[str, float]]
) -> Iterator[Fault]:
    """Pairs of features that seem to be swapped.

    Args:
        reference: of the version that answered.
        window: of its predictions.
        apart: `monitoring.magnitudes.gaps` of the window's features and the reference's.
        moved: gives of each column its distance over its threshold.
    """
    own = np.diag(apart)
    better = (apart <= _FITS * own[:, None]) & (apart <= _NEAR) & (own >= _APART)[:, None]
    names = [column.name for column in reference.features]
    pairs = {
        (names[i], names[j])
        for i, j in np.argwhere(better & better.T)
        if i < j and min(moved().get(names[i], 0.0), moved().get(names[j], 0.0)) >= _SEEN_TWICE
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
    straight = _apart(now - before, np.zeros_like(before))
    crossed = _apart(now, before, is_crossed=True)
    fits = (crossed <= _CROSSED * straight) & (window.ranks.rows * (straight - crossed) >= _SURE)
    yield from ((names[i], names[j]) for i, j in np.argwhere(np.triu(fits, 1)))


def _apart(ours: Floats, theirs: Floats, *, is_crossed: bool = False) -> Floats:
    """For each two rows i, j of square tables the summed squares of ours less theirs, but for columns i and j.

    Args:
        ours: (k, k).
        theirs: (k, k).
        is_crossed: whether row i is compared with the other's row j, and j with i.
    """
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1) - 2 * ours @ theirs.T
    own, across = np.diag(ours)[:, None] - theirs, ours - np.diag(theirs)  # columns i and j of rows i and j, crossed
    if is_crossed:
        found = squares - own**2 - across**2
        return np.asarray(found + found.T)
    whole, diagonal = np.diag(squares), (np.diag(ours) - np.diag(theirs)) ** 2
    return np.asarray(np.add.outer(whole - diagonal, whole - diagonal) - 2 * (ours - theirs) ** 2)
