"""Windows of past questions: what each window amounted to as it was known when the question was asked.

An event counts for a question if its tile is in the window and its entity's log had come to it by then. Where tiles do
not fall along an entity's log, both cut a run of it, so that a difference of two running sums, or two overlapping runs
of least and greatest values, answers any window. Events that came out of order are split off into further such chains:
as many as the longest run of ever older tiles, which the lateness bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features import sketch, tiles
from features.offline.grouping import SearchAxis, order_by_group
from features.offline.logged_events import LoggedEvents
from features.offline.range_folds import Cells, Combine, fold_ranges, greatest, least, newest
from features.views import WindowView

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Chain:
    """Events sorted by entity and position whose tiles do not fall within an entity.

    Args:
        rows: their places among the events.
        tile: their order by tile.
        position: their order by position; None if no question goes by position.
        known: their order by the time they became known; None if no question goes by time.
        totals: column of the layout -> running totals with a zero before, or None: as many as there are events.
        groups: which entities have events here; None: any may.
    """

    rows: Ints
    tile: SearchAxis
    position: SearchAxis | None
    known: SearchAxis | None
    totals: Mapping[int, Ints | None]
    groups: npt.NDArray[np.bool_] | None


class WindowJoin:
    """Answers questions about one window view.

    Args:
        view: the view.
        events: the events of its source.
        owner: the entity of each event, shape (n,), below 0 for nobody.
        entities: how many there are.
        by_position: whether questions may say up to which position they knew.
        by_time: whether questions may go by the time events became known.
    """

    def __init__(
        self, view: WindowView, events: LoggedEvents, owner: Ints, entities: int, *, by_position: bool, by_time: bool
    ) -> None:
        self._view = view
        self._plan = tiles.layout(view)
        self._events = events
        # events never lie ahead of the time they became known: what was known at a moment was before it
        self._is_past = not by_position and events.delay_bounds[0] >= 0
        counts = owner >= 0
        if events.delay_bounds[1] > view.lateness_us:
            counts &= events.known_us - events.at_us <= view.lateness_us
        rows = order_by_group(owner, entities) if counts.all() else _some(owner, counts, entities)
        self._chains = list(self._split(rows, owner, entities, by_position, by_time))

    def fold(self, reader: Ints, at_us: Ints, known: Ints | None) -> Ints:
        """What each window amounts to, in the layout of `features.tiles`.

        Args:
            reader: the entity of each question, shape (q,); the number of entities for those without events.
                Sorted, it is answered several times as fast.
            at_us: when it was asked.
            known: the position up to which each question knew, below 0: by time; None: all by time.

        Returns:
            Shape (q, windows, width).
        """
        out = tiles.empty_rows(self._view, (len(reader), len(self._view.windows)))
        now = at_us // self._view.tile_us
        for chain in self._chains:
            if chain.groups is None:
                self._add(out, chain, reader, now, at_us, known)
                continue
            here = np.flatnonzero(chain.groups[reader])
            if len(here):
                part = out[here]
                self._add(part, chain, reader[here], now[here], at_us[here], None if known is None else known[here])
                out[here] = part
        return out

    def _split(self, rows: Ints, owner: Ints, entities: int, by_position: bool, by_time: bool) -> Iterator[_Chain]:
        events, tile_us = self._events, self._view.tile_us
        position = known = None
        if by_position:
            assert events.position is not None
            position = SearchAxis(owner, events.position, entities, rows)
        if by_time:
            known = SearchAxis(
                owner, events.known_us, entities, rows,
                bounds=events.known_bounds, is_running=not events.is_known_in_order,
            )  # fmt: skip
        first, last = events.at_bounds
        tile = SearchAxis(owner, events.tile(tile_us), entities, rows, bounds=(first // tile_us, last // tile_us))
        groups = None
        while (tile.keys[1:] < tile.keys[:-1]).any():
            is_late = tile.keys < np.maximum.accumulate(tile.keys)
            kept, rest = np.flatnonzero(~is_late), np.flatnonzero(is_late)
            now, later = ([axis and axis.take(part) for axis in (position, known)] for part in (kept, rest))
            yield self._chain(rows[kept], tile.take(kept), now[0], now[1], groups)
            position, known = later
            rows, tile, groups = rows[rest], tile.take(rest), _those(owner[rows[rest]], entities)
        yield self._chain(rows, tile, position, known, groups)

    def _chain(
        self,
        rows: Ints,
        tile: SearchAxis,
        position: SearchAxis | None,
        known: SearchAxis | None,
        groups: npt.NDArray[np.bool_] | None,
    ) -> _Chain:
        totals: dict[int, Ints | None] = {1: None}
        for i, measure in enumerate(self._plan.sums):
            present, multiples = self._events.multiples(measure)
            totals[2 + 2 * i] = None if present.all() else _running_total(present[rows])
            totals[3 + 2 * i] = _running_total(multiples[rows])
        return _Chain(rows, tile, position, known, totals, groups)

    def _add(self, out: Ints, chain: _Chain, reader: Ints, now: Ints, at_us: Ints, known: Ints | None) -> None:
        """Add one chain's share to what the windows amount to."""
        stop = _known_rows(chain, reader, at_us, known)
        if not self._is_past:
            stop = np.minimum(stop, chain.tile.upto(reader, now))
        for w, length in enumerate(self._view.window_tiles):
            first = np.minimum(chain.tile.upto(reader, now - length), stop)
            for column, total in chain.totals.items():
                out[:, w, column] += stop - first if total is None else total[stop] - total[first]
            if not self._plan.is_additive:
                self._merge(out[:, w], chain, first, stop)

    def _merge(self, out: Ints, chain: _Chain, first: Ints, stop: Ints) -> None:
        """Merge least, greatest and newest values and sketches of ranges of a chain."""
        filled = np.flatnonzero(stop > first)
        if not len(filled):
            return
        begin, end = first[filled], stop[filled]
        low = int(begin.min())
        rows, begin, end = chain.rows[low : int(end.max())], begin - low, end - low
        for columns, cells, combine in self._cells(rows):
            found = fold_ranges(cells, begin, end, combine)
            before = tuple(out[filled, c] for c in columns)
            if found[0].ndim == 2:
                before = tuple(column.view(np.uint8).reshape(-1, 8) for column in before)
            for column, values in zip(columns, combine(before, found), strict=True):
                out[filled, column] = values if values.ndim == 1 else values.view(np.int64)[:, 0]

    def _cells(self, rows: Ints) -> Iterator[tuple[tuple[int, ...], Cells, Combine]]:
        """For each part of the layout that is not added: its columns, their values for some events, how they merge."""
        plan, events = self._plan, self._events
        for first, measures, absent, combine in (
            (plan.first_min, plan.mins, tiles.HIGHEST, least),
            (plan.first_max, plan.maxs, tiles.LOWEST, greatest),
        ):
            for column, measure in enumerate(measures, first):
                present, multiples = events.multiples(measure)
                yield (column,), (np.where(present[rows], multiples[rows], absent),), combine
        for column, measure in zip(plan.moments, plan.lasts, strict=True):
            present, multiples = events.multiples(measure)
            pair = (np.where(present[rows], c[rows], tiles.LOWEST) for c in (events.at_us, multiples))
            yield (column, column + 1), tuple(pair), newest
        for i, name in enumerate(plan.distinct):
            register, rank = (part[rows] for part in events.sketched(name))
            for word in range(sketch.WORDS):
                cells = np.zeros((len(rows), 8), dtype=np.uint8)
                here = np.flatnonzero(register // 8 == word)
                cells[here, register[here] % 8] = rank[here]
                yield (plan.first_sketch + i * sketch.WORDS + word,), (cells,), greatest


def _known_rows(chain: _Chain, reader: Ints, at_us: Ints, known: Ints | None) -> Ints:
    """Up to which of the chain's rows each question knew."""
    if known is None:
        assert chain.known is not None
        return chain.known.upto(reader, at_us)
    assert chain.position is not None
    stop = chain.position.upto(reader, known)
    by_time = np.flatnonzero(known < 0)
    if len(by_time):
        assert chain.known is not None
        stop[by_time] = chain.known.upto(reader[by_time], at_us[by_time])
    return stop


def _some(owner: Ints, counts: npt.NDArray[np.bool_], entities: int) -> Ints:
    kept = np.flatnonzero(counts)
    return kept[order_by_group(owner[kept], entities)]


def _those(owner: Ints, entities: int) -> npt.NDArray[np.bool_]:
    is_there = np.zeros(entities + 1, dtype=bool)
    is_there[owner] = True
    return is_there


def _running_total(values: npt.NDArray[Any]) -> Ints:
    total = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=total[1:])
    return total
