"""How much the columns of a reference vary by themselves from one stretch of time to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitoring.bins import ColumnBins, Curve
from monitoring.profile import Histograms
from monitoring.seasons import DAY_S, Grid

Floats = npt.NDArray[np.float64]

_MIN_RUNS = 3
_BLOCKS_A_CELL = 3
# A reference of a year has seen every season: what moves slowly in it comes back.
_YEAR_S = 330 * DAY_S
_PERSISTENT = 0.5
_MAX_GROWTH = 4.0


@dataclass(frozen=True)
class Variation:
    """How one column's curve deviates from what its place in the week lets expect.

    Variances are in those of a single row.

    Args:
        deviations: of stretches of `blocks` blocks, (stretches, m).
        starts: at which block each begins, (stretches,).
        blocks: length of a stretch.
        independent: how many stretches do not overlap.
        seen: variance of the deviations.
        sampled: the part of it that the sampling of rows explains.
        exponent: how fast the difference of two stretches grows with the time between them; 0: it does not.
    """

    deviations: Floats
    starts: npt.NDArray[np.int64]
    blocks: int
    independent: float
    seen: float
    sampled: float
    exponent: float

    @property
    def own(self) -> float:
        """Variance beyond sampling; below 0 where chance has it so."""
        return self.seen - self.sampled

    @cached_property
    def alike(self) -> float | None:
        """How the deviations of stretches in a row from what earlier ones let expect are correlated; None if unknown.

        Those of the reference deviate from their own mean, which takes one in `independent` from their covariance; what
        comes later is compared with a mean that has an error of its own, the same for all, which adds as much.
        """
        place = np.full(int(self.starts[-1]) + self.blocks + 1, -1)
        place[self.starts] = np.arange(self.starts.size)
        later = place[self.starts + self.blocks]
        power = float((self.deviations**2).sum(axis=1).mean())
        if power <= 0 or not (later >= 0).any():
            return None
        products = (self.deviations[later >= 0] * self.deviations[later[later >= 0]]).sum(axis=1)
        return float(products.mean() / power + 2 / self.independent) / (1 + 1 / self.independent)

    def scale(self, seen: Floats | float) -> Floats:
        """What the deviations are to be multiplied by to have a variance that is the column's own, of the shape given.

        Args:
            seen: the variance that they are taken to have, sampling included.
        """
        own = np.maximum(np.asarray(seen, dtype=np.float64) - self.sampled, 0.0)
        return np.asarray(np.sqrt(own / self.seen)) if self.seen > 0 else np.zeros_like(own)

    def share(self, seen: Floats | float) -> Floats:
        """What errors of sampling are to be multiplied by: 1 or less, where rows are more even than chance makes them.

        Args:
            seen: as for `scale`.
        """
        least = min(self.seen, self.sampled)
        return np.sqrt(np.minimum(np.asarray(seen) / self.sampled, 1.0)) if least > 0 else np.ones_like(seen)

    def beyond_sampling(self) -> Floats:
        """The deviations, scaled to the variance that is the column's own."""
        return self.deviations * self.scale(self.seen)


@dataclass(frozen=True)
class Expected:
    """What a window should look like.

    Args:
        values: of the curve, (m,).
        error: variance of the difference by sampling, of window and reference, over value (1 - value), (m,).
        window: the curve that it has.
        rows: of the window that count.
    """

    values: Floats
    error: Floats
    window: Curve
    rows: int


def expected(column: ColumnBins, reference: Histograms, grid: Grid, first_block: int, window: Histograms) -> Expected:
    """The curve to be expected of a window whose rows are spread over the cells of the grid as they are.

    Args:
        column: which.
        reference: by block.
        grid: the blocks.
        first_block: of the reference.
        window: by cell.
    """
    counts = reference.of(column.name)
    told_apart = _told_apart(counts, grid)
    overall, cells = column.curve(counts.sum(axis=0)), column.curve(by_cell(counts, told_apart, first_block))
    ours = column.curve(window.of(column.name).sum(axis=0))
    rows = np.nan_to_num(column.curve(by_cell(window.of(column.name), told_apart, 0)).rows)
    known = np.nan_to_num(cells.rows) > 0
    values = np.where(known, np.nan_to_num(cells.values), np.nan_to_num(overall.values))
    behind = np.where(known, cells.rows, np.maximum(overall.rows, 1.0))
    weights = rows / np.maximum(rows.sum(axis=0), 1.0)
    error = 1 / np.maximum(ours.rows, 1.0) + (weights**2 / np.maximum(behind, 1.0)).sum(axis=0)
    return Expected((weights * values).sum(axis=0), error, ours, int(window.of(column.name).sum()))


def by_cell(counts: npt.NDArray[np.int64], grid: Grid, first_block: int) -> npt.NDArray[np.int64]:
    """Counts by block, (blocks, bins), summed over the blocks of each cell: (cells, bins)."""
    cells = grid.cell(first_block + np.arange(len(counts)))
    found = np.zeros((grid.cells, counts.shape[1]), dtype=np.int64)
    np.add.at(found, cells, counts)
    return found


def _told_apart(counts: npt.NDArray[np.int64], grid: Grid) -> Grid:
    """The finest cells, of the week, of the day or none, of which the blocks with rows hold several each."""
    filled = int((counts.sum(axis=1) > 0).sum())
    options = (grid.cells, max(1, DAY_S // grid.block_s), 1)
    return Grid(grid.block_s, next(cells for cells in options if cells == 1 or filled >= _BLOCKS_A_CELL * cells))


def variation(
    column: ColumnBins, reference: Histograms, grid: Grid, first_block: int, window_blocks: int
) -> Variation | None:
    """What a column's curve does from one stretch of the window's length to the next; None if there are too few.

    Stretches shorter than the window are used where the reference holds fewer than eight of its length.

    Sampling explains a variance of v (1 - v) / n of a share v of n rows.
    """
    counts = reference.of(column.name)
    length = stretch_length(len(counts), window_blocks)
    curves = column.curve(counts)
    told_apart = _told_apart(counts, grid)
    cell = told_apart.cell(first_block + np.arange(len(counts)))
    cells = column.curve(by_cell(counts, told_apart, first_block))
    usual, rows = np.nan_to_num(cells.values)[cell], np.nan_to_num(curves.rows)
    away = np.where(rows > 0, rows * (np.nan_to_num(curves.values) - usual), 0.0)
    noise = rows * usual * (1 - usual)
    sums = [_moving(part, length) for part in (away, rows, noise)]
    filled = sums[1].min(axis=1) > 0.2 * np.median(sums[1].min(axis=1))
    independent = filled.sum() / length
    if independent < _MIN_RUNS:
        return None
    deviations, behind = sums[0][filled] / sums[1][filled], sums[1][filled]
    weights = column.distance_weights
    # a block's own rows are in what it is compared with
    per_cell = max(int((counts.sum(axis=1) > 0).sum()) / told_apart.cells, 1.5)
    deviations = deviations / np.sqrt(1 - 1 / per_cell)
    row = max(float((usual * (1 - usual)).mean(axis=0) @ weights), 1e-12)
    found = Variation(
        deviations=deviations,
        starts=np.flatnonzero(filled),
        blocks=length,
        independent=float(independent),
        seen=float((deviations**2 @ weights).mean()) / row,
        sampled=float(((sums[2][filled] / behind**2) @ weights).mean()) / row,
        exponent=0.0,
    )
    return replace(found, exponent=_exponent(found.beyond_sampling() @ weights, length, len(counts) * grid.block_s))


def stretch_length(blocks: int, window_blocks: int) -> int:
    """How many blocks a stretch has of a reference of so many, to be compared with windows of so many."""
    return max(1, min(window_blocks, blocks // 8))


def _moving(values: Floats, length: int) -> Floats:
    sums = np.cumsum(np.vstack([np.zeros(values.shape[1]), values]), axis=0)
    return np.asarray(sums[length:] - sums[:-length])


def _exponent(series: Floats, length: int, span_s: float) -> float:
    """Of the growth of the variogram of a series with overlapping stretches, in [0, 2].

    Source: the power variogram (Matheron, 1963), between one stretch apart and half of the series.
    """
    half = len(series) // 2
    if span_s >= _YEAR_S or half < 2 * length:
        return 0.0
    near, far = (float(((series[lag:] - series[:-lag]) ** 2).mean()) for lag in (length, half))
    if far <= 0 or near > _PERSISTENT * far:
        return 0.0
    return float(np.clip(np.log(far / max(near, 1e-12)) / np.log(half / length), 0.0, 2.0))


def growth(found: Variation, blocks: int, blocks_after: float) -> float:
    """By how much more than within a reference of so many blocks a window deviates whose middle is so much later.

    Args:
        found: of the reference.
        blocks: of the reference.
        blocks_after: from the middle of the reference to that of the window.
    """
    return float(np.clip((3 * abs(blocks_after) / blocks) ** (found.exponent / 2), 1.0, _MAX_GROWTH))
