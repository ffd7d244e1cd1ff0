"""Tiles: the one arithmetic behind window features, online and offline.

A row of int64 holds what one entity's events of one tile amount to (a single event makes a row too). Its columns
are laid out by `Layout`: the tile's number, then what is added (the events; for each summed field how many values
were not null and their sum in whole multiples of the resolution), least and greatest values, newest values with
their moments, and the registers of sketches. Rows combine by integer addition, minimum and maximum alone, so
neither the order nor the grouping of events changes a bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from features import sketch
from features.views import Aggregate, WindowView

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Measure = tuple[str, float]
NO_TILE = -(2**62)
LOWEST, HIGHEST = -(2**63), 2**63 - 1
LARGEST_MULTIPLE = 2**53
"""Values are kept as whole multiples of their resolution up to this many, either way."""


@dataclass(frozen=True)
class Layout:
    """Which column of a row holds what.

    Args:
        sums: fields that are summed, with their resolution; two columns each, from column 2 on (1 counts events).
        mins: fields of which the least value is kept; one column each.
        maxs: fields of which the greatest value is kept; one column each.
        lasts: fields of which the newest value is kept; two columns each, moment and value.
        distinct: fields whose distinct values are counted; `sketch.WORDS` columns each.
    """

    sums: tuple[Measure, ...]
    mins: tuple[Measure, ...]
    maxs: tuple[Measure, ...]
    lasts: tuple[Measure, ...]
    distinct: tuple[str, ...]

    @property
    def first_min(self) -> int:
        """Column of the first least value; those before it, but the first, are added."""
        return 2 + 2 * len(self.sums)

    @property
    def first_max(self) -> int:
        """Column of the first greatest value."""
        return self.first_min + len(self.mins)

    @property
    def first_last(self) -> int:
        """Column of the first newest value's moment."""
        return self.first_max + len(self.maxs)

    @property
    def first_sketch(self) -> int:
        """Column of the first sketch."""
        return self.first_last + 2 * len(self.lasts)

    @property
    def width(self) -> int:
        """How many columns a row has."""
        return self.first_sketch + sketch.WORDS * len(self.distinct)

    @property
    def is_additive(self) -> bool:
        """Whether every column is added."""
        return self.width == self.first_min

    @property
    def moments(self) -> range:
        """Columns that hold the moments of newest values; the value stands beside each."""
        return range(self.first_last, self.first_sketch, 2)

    @property
    def sketches(self) -> slice:
        """Columns that hold sketches."""
        return slice(self.first_sketch, self.width)


@lru_cache(maxsize=1024)
def layout(view: WindowView) -> Layout:
    """The layout of a view's rows."""
    kinds = {"sum": "sums", "mean": "sums", "ratio": "sums", "min": "mins", "max": "maxs", "last": "lasts"}
    found: dict[str, dict[Measure, None]] = {name: {} for name in kinds.values()}
    distinct: dict[str, None] = {}
    for a in view.aggregates:
        if a.kind == "distinct":
            distinct[cast(str, a.field)] = None
        elif a.field is not None:
            found[kinds[a.kind]][a.field, a.resolution] = None
            if a.over is not None:
                found["sums"][a.over, a.resolution] = None
    return Layout(**{name: tuple(fields) for name, fields in found.items()}, distinct=tuple(distinct))


def empty_rows(view: WindowView, shape: tuple[int, ...]) -> Ints:
    """Rows of no event, of the given shape and the layout's width."""
    plan = layout(view)
    rows = np.zeros((*shape, plan.width), dtype=np.int64)
    rows[..., 0] = NO_TILE
    rows[..., plan.first_min : plan.first_max] = HIGHEST
    rows[..., plan.first_max : plan.first_sketch] = LOWEST
    return rows


def event_rows(view: WindowView, at_us: Ints, fields: Mapping[str, npt.NDArray[Any]]) -> Ints:
    """One row per event, shape (n, width).

    Args:
        view: the window view.
        at_us: when the events happened, shape (n,).
        fields: the fields its aggregates read, shape (n,): float64 with NaN for null, or objects of str with ""
            for null.
    """
    plan = layout(view)
    rows = empty_rows(view, (len(at_us),))
    rows[:, 0] = at_us // view.tile_us
    rows[:, 1] = 1
    for i, measure in enumerate(plan.sums):
        present, multiples = multiples_of(fields, measure)
        rows[:, 2 + 2 * i] = present
        rows[:, 3 + 2 * i] = multiples
    for first, measures in ((plan.first_min, plan.mins), (plan.first_max, plan.maxs)):
        for i, measure in enumerate(measures, first):
            present, multiples = multiples_of(fields, measure)
            rows[present, i] = multiples[present]
    for i, measure in zip(plan.moments, plan.lasts, strict=True):
        present, multiples = multiples_of(fields, measure)
        rows[present, i] = at_us[present]
        rows[present, i + 1] = multiples[present]
    for i, name in enumerate(plan.distinct):
        first = plan.first_sketch + i * sketch.WORDS
        rows[:, first : first + sketch.WORDS] = sketch.of_each(fields[name])
    return rows


def combine(view: WindowView, rows: Ints, starts: Ints) -> Ints:
    """One row for each run of rows; the runs begin at `starts` (k,), none is empty. Shape (k, width)."""
    plan = layout(view)
    out = np.empty((len(starts), plan.width), dtype=np.int64)
    out[:, 0] = rows[starts, 0]
    out[:, 1 : plan.first_min] = np.add.reduceat(rows[:, 1 : plan.first_min], starts, axis=0)
    if plan.is_additive:
        return out
    least, greatest = slice(plan.first_min, plan.first_max), slice(plan.first_max, plan.first_last)
    out[:, least] = np.minimum.reduceat(rows[:, least], starts, axis=0)
    out[:, greatest] = np.maximum.reduceat(rows[:, greatest], starts, axis=0)
    lengths = np.diff(starts, append=len(rows))
    for i in plan.moments:
        out[:, i] = np.maximum.reduceat(rows[:, i], starts)
        of_newest = np.where(rows[:, i] == np.repeat(out[:, i], lengths), rows[:, i + 1], LOWEST)
        out[:, i + 1] = np.maximum.reduceat(of_newest, starts)
    if plan.distinct:
        out[:, plan.sketches] = sketch.union_of_runs(rows[:, plan.sketches], starts)
    return out


def merge(view: WindowView, owner: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """One row per entity and tile, without the tiles that have fallen out of reach.

    Args:
        view: the window view.
        owner: the entity of each row, shape (n,), from 0.
        rows: shape (n, width), in any order.

    Returns:
        The owners (k,) and rows (k, width), sorted by owner and tile.
    """
    if not len(rows):
        return owner, rows
    order = np.lexsort((rows[:, 0], owner))
    owner, rows = owner[order], rows[order]
    is_start = np.ones(len(rows), dtype=bool)
    is_start[1:] = (owner[1:] != owner[:-1]) | (rows[1:, 0] != rows[:-1, 0])
    starts = np.flatnonzero(is_start)
    owner, rows = owner[starts], combine(view, rows, starts)
    newest = np.full(int(owner[-1]) + 1, NO_TILE, dtype=np.int64)
    newest[owner] = rows[:, 0]  # the last assignment of each owner stays, which is its newest tile
    kept = rows[:, 0] > newest[owner] - view.slots
    return owner[kept], rows[kept]


def fold(view: WindowView, rows: Ints, first: Ints, stop: Ints) -> Ints:
    """What the rows of each run amount to; runs may be empty or overlap.

    Args:
        view: the window view.
        rows: shape (t, width).
        first: where each run begins, any shape.
        stop: where it ends, the same shape.

    Returns:
        Shape (*first.shape, width). Fit for few runs, or for layouts that are added only.
    """
    plan = layout(view)
    out = empty_rows(view, first.shape)
    total = np.zeros((len(rows) + 1, plan.first_min - 1), dtype=np.int64)
    np.cumsum(rows[:, 1 : plan.first_min], axis=0, out=total[1:])
    out[..., 1 : plan.first_min] = total[stop] - total[first]
    if plan.is_additive:
        return out
    filled = np.flatnonzero((stop > first).ravel())
    if len(filled):
        runs = [rows[a:b] for a, b in zip(first.ravel()[filled].tolist(), stop.ravel()[filled].tolist(), strict=True)]
        starts = np.cumsum([0, *(len(run) for run in runs[:-1])])
        flat = out.reshape(-1, plan.width)
        flat[filled, plan.first_min :] = combine(view, np.concatenate(runs), starts)[:, plan.first_min :]
    return out


def values(view: WindowView, folded: Ints) -> Floats:
    """Features from what each window amounts to: (n, windows, width) -> (n, windows * aggregates)."""
    plan = layout(view)
    columns = [_value(plan, a, folded[:, w]) for w in range(len(view.windows)) for a in view.aggregates]
    return np.stack(columns, axis=1)


def multiples_of(fields: Mapping[str, npt.NDArray[Any]], measure: Measure) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which values of a field are not null, and all of them as whole multiples of the resolution (0 for null)."""
    name, resolution = measure
    given = fields[name].astype(np.float64, copy=False)
    present = ~np.isnan(given)
    whole = np.rint(np.where(present, given, 0.0) / resolution)
    return present, np.clip(whole, -LARGEST_MULTIPLE, LARGEST_MULTIPLE).astype(np.int64)


def _value(plan: Layout, a: Aggregate, cells: Ints) -> Floats:
    if a.kind == "count":
        return cells[:, 1].astype(np.float64)
    name = cast(str, a.field)
    if a.kind == "distinct":
        first = plan.first_sketch + plan.distinct.index(name) * sketch.WORDS
        return sketch.estimate(cells[:, first : first + sketch.WORDS])
    measure = (name, a.resolution)
    if a.kind in ("sum", "mean", "ratio"):
        return _summed(plan, a, cells)
    if a.kind == "last":
        column = plan.first_last + 2 * plan.lasts.index(measure)
        present, found = cells[:, column] != LOWEST, cells[:, column + 1]
    elif a.kind == "min":
        found = cells[:, plan.first_min + plan.mins.index(measure)]
        present = found != HIGHEST
    else:
        found = cells[:, plan.first_max + plan.maxs.index(measure)]
        present = found != LOWEST
    return np.where(present, found.astype(np.float64) * a.resolution, a.default)


def _summed(plan: Layout, a: Aggregate, cells: Ints) -> Floats:
    column = 2 + 2 * plan.sums.index((cast(str, a.field), a.resolution))
    total = cells[:, column + 1].astype(np.float64) * a.resolution
    if a.kind == "sum":
        return total
    if a.kind == "mean":
        below = cells[:, column].astype(np.float64)
    elif a.over is None:
        below = cells[:, 1].astype(np.float64)
    else:
        below = cells[:, 3 + 2 * plan.sums.index((a.over, a.resolution))].astype(np.float64) * a.resolution
    return np.where(below != 0, total / np.where(below != 0, below, 1.0), a.default)
