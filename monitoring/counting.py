"""Counting rows into bins, slices of time and segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins
from monitoring.profile import LABEL, RESIDUAL, SCORE

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Groups:
    """Segments that exclude each other: the values of one column.

    Args:
        names: of the segments.
        members: which of them each row is in, (n,); -1: none.
    """

    names: tuple[str, ...]
    members: Ints


def count_rows(
    bins: Sequence[ColumnBins], values: Mapping[str, Values], slices: Ints, many: int, groups: Sequence[Groups]
) -> tuple[Ints, dict[str, Ints]]:
    """Histograms of all rows and of each segment, each of shape (many, sum of the bins' sizes).

    A feature without a value is a null; a score or a label without a value is not there, and not counted.

    Args:
        bins: the columns; those missing in `values` are not counted.
        values: of each column, float32 (n,).
        slices: of each row, (n,), from 0 to `many` - 1.
        many: how many slices.
        groups: the segments.
    """
    total = [np.zeros((many, column.size), dtype=np.int64) for column in bins]
    parts = {name: [np.zeros_like(zeros) for zeros in total] for group in groups for name in group.names}
    for i, column in enumerate(bins):
        rows = _counted(column, values)
        if rows is None:
            continue
        place, where = _places(column, values, rows), slices[rows]
        total[i] = _tally(where * column.size + place, many, column.size)[0]
        for group in groups:
            member = group.members[rows]
            inside = member >= 0
            key = (member[inside] * many + where[inside]) * column.size + place[inside]
            for name, found in zip(
                group.names, _tally(key, len(group.names) * many, column.size, len(group.names)), strict=True
            ):
                parts[name][i] = found
    return np.concatenate(total, axis=1), {name: np.concatenate(found, axis=1) for name, found in parts.items()}


def _counted(column: ColumnBins, values: Mapping[str, Values]) -> slice | npt.NDArray[np.bool_] | None:
    """The rows that count for a column."""
    if column.name == RESIDUAL:
        if SCORE not in values or LABEL not in values:
            return None
        return ~(np.isnan(values[SCORE]) | np.isnan(values[LABEL]))
    if column.name not in values:
        return None
    return ~np.isnan(values[column.name]) if column.name in (SCORE, LABEL) else slice(None)


def _places(
    column: ColumnBins, values: Mapping[str, Values], rows: slice | npt.NDArray[np.bool_]
) -> Ints:  # fmt: skip
    if column.name == RESIDUAL:
        return column.index(values[SCORE][rows], values[LABEL][rows])
    return column.index(values[column.name][rows])


def _tally(keys: Ints, slices: int, size: int, parts: int = 1) -> Ints:
    return np.bincount(keys, minlength=slices * size).astype(np.int64).reshape(parts, -1, size)
