"""How long each column keeps one value, row after row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Streaks:
    """The longest run of one value in each of d columns, over rows in order of time; nulls never repeat.

    Args:
        longest: rows, (d,).
        value: repeated in it, (d,).
        first: value of the first row, (d,).
        first_run: rows until it changed, (d,).
        last: value of the last row, (d,).
        last_run: rows since it changed, (d,).
        rows: all of them.

    Example:
        >>> Streaks.of([np.array([1, 2, 2, 2, 3], dtype=np.float32)]).longest
        array([3])
    """

    longest: Ints
    value: Values
    first: Values
    first_run: Ints
    last: Values
    last_run: Ints
    rows: int

    @classmethod
    def of(cls, columns: list[Values]) -> Streaks:
        """The runs of columns of shape (n,) each, n > 0."""
        found = [_runs(column) for column in columns]
        longest, value, first_run, last_run = (list(part) for part in zip(*found, strict=True)) if found else ([],) * 4
        return cls(
            np.array(longest, dtype=np.int64), np.array(value, dtype=np.float32),
            np.array([column[0] for column in columns], dtype=np.float32), np.array(first_run, dtype=np.int64),
            np.array([column[-1] for column in columns], dtype=np.float32), np.array(last_run, dtype=np.int64),
            len(columns[0]) if columns else 0,
        )  # fmt: skip

    def then(self, later: Streaks) -> Streaks:
        """The runs of these rows followed by later ones."""
        goes_on = self.last == later.first
        joint = np.where(goes_on, self.last_run + later.first_run, 0)
        options = np.stack([self.longest, later.longest, joint])
        values = np.stack([self.value, later.value, self.last])
        best, every = options.argmax(axis=0), np.arange(self.longest.size)
        return Streaks(
            options[best, every], values[best, every],
            self.first, np.where(goes_on & (self.first_run == self.rows), joint, self.first_run),
            later.last, np.where(goes_on & (later.last_run == later.rows), joint, later.last_run),
            self.rows + later.rows,
        )  # fmt: skip


def _runs(column: Values) -> tuple[int, float, int, int]:
    """Longest run and its value, first run, last run."""
    starts = np.r_[0, np.flatnonzero(column[1:] != column[:-1]) + 1]
    lengths = np.diff(np.r_[starts, column.size])
    best = int(lengths.argmax())
    return int(lengths[best]), float(column[starts[best]]), int(lengths[0]), int(lengths[-1])
