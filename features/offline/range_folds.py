"""Least, greatest and newest values, and sketches, over many ranges of rows at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Cells = tuple[npt.NDArray[Any], ...]
Combine = Callable[[Cells, Cells], Cells]


def least(a: Cells, b: Cells) -> Cells:
    """The smaller of two values."""
    return (np.minimum(a[0], b[0]),)


def greatest(a: Cells, b: Cells) -> Cells:
    """The greater of two values; of arrays of bytes, byte by byte."""
    return (np.maximum(a[0], b[0]),)


def newest(a: Cells, b: Cells) -> Cells:
    """Of two pairs (moment, value) the later one; of equally late ones that with the greater value."""
    is_second = (b[0] > a[0]) | ((b[0] == a[0]) & (b[1] > a[1]))
    return np.where(is_second, b[0], a[0]), np.where(is_second, b[1], a[1])


def fold_ranges(cells: Cells, first: Ints, stop: Ints, combine: Combine) -> Cells:
    """What the cells of each range combine to.

    A table of the runs of 1, 2, 4, … cells answers a range by its two longest runs, which may overlap. Only one
    length is held at a time, so memory is that of the cells, and time grows with n log n.
    Source: Bender, Farach-Colton, "The LCA Problem Revisited" (2000), sparse tables.

    Args:
        cells: one or more arrays with n rows.
        first: where each range begins, shape (q,).
        stop: where it ends, shape (q,); no range is empty.
        combine: associative and commutative, and combining a cell with itself changes nothing.

    Returns:
        Arrays with q rows.

    Example:
        >>> fold_ranges((np.array([3, 1, 2]),), np.array([0, 1]), np.array([3, 3]), greatest)[0].tolist()
        [3, 2]
    """
    level = (np.frexp((stop - first).astype(np.float64))[1] - 1).astype(np.uint8)
    order = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[order], np.arange(int(level.max(initial=0)) + 2))
    found = tuple(np.empty((len(first), *column.shape[1:]), dtype=column.dtype) for column in cells)
    for i, (a, b) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        length, mine = 1 << i, order[a:b]
        if i:
            half = length >> 1
            cells = combine(tuple(c[:-half] for c in cells), tuple(c[half:] for c in cells))
        if b > a:
            left, right = first[mine], stop[mine] - length
            answered = combine(tuple(c[left] for c in cells), tuple(c[right] for c in cells))
            for column, values in zip(found, answered, strict=True):
                column[mine] = values
    return found
