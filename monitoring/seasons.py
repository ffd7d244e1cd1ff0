"""Slices of time: blocks to learn variation from, and their places in the day or the week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

HOUR_S, DAY_S, WEEK_S = 3_600, 86_400, 604_800
# Enough blocks for windows of hours, few enough to be stored with a version.
_MOST = {6 * HOUR_S: 400, DAY_S: 1_500}


@dataclass(frozen=True)
class Grid:
    """Time cut into blocks of equal length; blocks at the same place of the day or the week form a cell.

    Args:
        block_s: length of a block, in seconds.
        cells: how many places of a block are told apart; 1: none.

    Example:
        >>> Grid.over(90 * DAY_S)
        Grid(block_s=21600, cells=28)
        >>> Grid.over(5 * HOUR_S)
        Grid(block_s=3600, cells=1)
    """

    block_s: int
    cells: int

    @classmethod
    def over(cls, span_s: float) -> Grid:
        """The grid for a reference of that length: weeks are told apart from three on, days likewise."""
        if span_s < 3 * DAY_S:
            return cls(HOUR_S, 1)
        if span_s < 3 * WEEK_S:
            return cls(HOUR_S, 24) if span_s < 7 * DAY_S else cls(6 * HOUR_S, 4)
        block_s = next((length for length, most in _MOST.items() if span_s / length <= most), WEEK_S)
        return cls(block_s, WEEK_S // block_s)

    def block(self, at_us: Ints) -> Ints:
        """The block of each moment, in microseconds since 1970."""
        return at_us // (self.block_s * 1_000_000)

    def cell(self, block: Ints) -> Ints:
        """The place of each block in the day or the week."""
        return block % self.cells
