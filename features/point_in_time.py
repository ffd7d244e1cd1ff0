"""Point-in-time joins: for each past question, the features as they were known when it was asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features import tiles
from features.columns import column_array, compute_request_view
from features.definitions import BatchView, RequestView, WindowView, feature_set, view_digest
from features.offline import OfflineLog
from features.online import batch_values

Ints = npt.NDArray[np.int64]
IMPORTED = -1


def point_in_time_matrix(log: OfflineLog, use_case: UseCase, rows: pd.DataFrame) -> npt.NDArray[np.float32]:
    """The feature matrix of past questions.

    Args:
        log: the offline log.
        use_case: whose features.
        rows: n questions: ``at`` (UTC), ``watermark`` (log position known to the reader; -1: what was known at
            ``at``), the entities and request fields.

    Returns:
        Shape (n, features), float32; equal bit for bit to what serving assembled for the same questions.
    """
    at_us = to_us_array(rows["at"])
    watermark = rows["watermark"].to_numpy(dtype=np.int64)
    columns: dict[str, npt.NDArray[Any]] = {"at": at_us}
    columns |= {f.name: column_array(f, _nulls(rows[f.name])) for f in use_case.request_fields}
    events: dict[str, pd.DataFrame] = {}
    blocks: list[npt.NDArray[np.float64]] = []
    for view in feature_set(use_case).views:
        if isinstance(view, RequestView):
            blocks.append(compute_request_view(view, columns))
            continue
        entity = _as_text(rows[view.entity])
        if isinstance(view, BatchView):
            blocks.append(_batch_block(log, use_case, view, entity, at_us, watermark))
            continue
        if view.source not in events:
            reach = max(v.tile * v.slots for v in feature_set(use_case).window_views if v.source == view.source)
            events[view.source] = _events(log, view.source, rows["at"], reach)
        blocks.append(_window_block(use_case, view, events[view.source], entity, at_us, watermark))
    return np.concatenate(blocks, axis=1).astype(np.float32)


def to_us_array(moments: pd.Series) -> Ints:
    """UTC timestamps as int64 microseconds since 1970."""
    return np.asarray(moments.astype("datetime64[us, UTC]").astype("int64"), dtype=np.int64)


def _events(log: OfflineLog, source: str, at: pd.Series, reach: timedelta) -> pd.DataFrame:
    if at.empty:
        return pd.DataFrame()
    return log.events(source, since=at.min().to_pydatetime() - reach - timedelta(days=1))


def _nulls(values: pd.Series) -> list[Any]:
    return values.astype(object).where(values.notna(), None).tolist()


def _as_text(values: pd.Series) -> npt.NDArray[Any]:
    codes, unique = pd.factorize(values)
    return np.array([str(value) for value in unique.tolist()], dtype=object)[codes]


def _codes(entity: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[Ints, Ints, int]:
    codes, unique = pd.factorize(np.concatenate([entity, other]))
    return codes[: len(entity)].astype(np.int64), codes[len(entity) :].astype(np.int64), len(unique)


def _known_position(position: Ints, known_us: Ints, at_us: Ints, watermark: Ints) -> Ints:
    """Up to which position each reader knew; for imported questions, by the time entries became known."""
    if not len(position):
        return watermark
    upto = np.searchsorted(np.maximum.accumulate(known_us), at_us, side="right") - 1
    by_time = np.where(upto >= 0, position[np.maximum(upto, 0)], 0)
    known: Ints = np.where(watermark == IMPORTED, by_time, watermark)
    return known


def _batch_block(
    log: OfflineLog, use_case: UseCase, view: BatchView, entity: npt.NDArray[Any], at_us: Ints, watermark: Ints
) -> npt.NDArray[np.float64]:
    n = len(at_us)
    as_of_us = np.full(n, tiles.NO_TILE, dtype=np.int64)
    found = np.zeros((n, len(view.outputs)), dtype=np.float64)
    stored = log.batch(use_case.name, view.name, view_digest(view))
    if not stored.empty:
        position = stored["position"].to_numpy(dtype=np.int64)
        known = _known_position(position, to_us_array(stored["known_at"]), at_us, watermark)
        mine, theirs, _ = _codes(entity, stored["entity"].to_numpy(dtype=object))
        left = pd.DataFrame({"known": known, "entity": mine, "i": np.arange(n)}).sort_values("known", kind="stable")
        right = pd.DataFrame({"known": position, "entity": theirs, "j": np.arange(len(stored))})
        joined = pd.merge_asof(left, right, on="known", by="entity")
        hit = joined[joined["j"].notna()]
        i, j = hit["i"].to_numpy(), hit["j"].to_numpy(dtype=np.int64)
        as_of_us[i] = to_us_array(stored["as_of"])[j]
        found[i] = stored[list(view.outputs)].to_numpy(dtype=np.float64)[j]
    return batch_values(view, as_of_us, found, at_us)[0]


def _window_block(
    use_case: UseCase,
    view: WindowView,
    events: pd.DataFrame,
    entity: npt.NDArray[Any],
    at_us: Ints,
    watermark: Ints,
) -> npt.NDArray[np.float64]:
    width = 1 + 2 * len(view.measures)
    sums = np.zeros((len(at_us), len(view.windows), width), dtype=np.int64)
    if events.empty:
        return tiles.values(view, sums)
    position = events["position"].to_numpy(dtype=np.int64)
    known = _known_position(position, to_us_array(events["known_at"]), at_us, watermark)
    added = _increments(use_case, view, events)
    reader, owner, _ = _codes(entity, _as_text(events[view.entity]))
    now = at_us // view.tile_us
    order = np.argsort(owner, kind="stable")  # within an entity, by position
    grouped = _Grouped(owner[order], added.tile[order], position[order], added.amounts[order])
    straggler = grouped.stragglers()
    main = grouped.take(~straggler)
    for w, length in enumerate(view.window_tiles):
        sums[:, w] = main.between(reader, now - length, now, known)
    if straggler.any():
        _add_stragglers(sums, view, grouped.take(straggler), reader, now, known)
    return tiles.values(view, sums)


def _increments(use_case: UseCase, view: WindowView, events: pd.DataFrame) -> tiles.Increments:
    needed = ["at", *dict.fromkeys(name for name, _ in view.measures)]
    measured = {name: events[name].to_numpy(dtype=np.float64) for name in needed[1:]}
    return tiles.increments(view, to_us_array(events["at"]), measured)


class _Grouped:
    """Events grouped by entity, in order of position within each."""

    def __init__(self, owner: Ints, tile: Ints, position: Ints, amounts: Ints) -> None:
        self.owner = owner
        self.tile = tile
        self.position = position
        self.amounts = amounts

    def take(self, mask: npt.NDArray[np.bool_]) -> _Grouped:
        return _Grouped(self.owner[mask], self.tile[mask], self.position[mask], self.amounts[mask])

    def stragglers(self) -> npt.NDArray[np.bool_]:
        """Events whose tile is older than one that came before them for the same entity."""
        low = self.tile.min()
        span = int(self.tile.max() - low) + 1
        running = np.maximum.accumulate(self.owner * span + (self.tile - low))
        late: npt.NDArray[np.bool_] = self.owner * span + (self.tile - low) < running
        return late

    def between(self, owner: Ints, after: Ints, upto: Ints, known: Ints) -> Ints:
        """Sums over the events of each reader's entity with tile in (after, upto] and position <= known.

        Tiles never fall along positions here, so both conditions cut a run of each entity's events.
        """
        total = np.concatenate([np.zeros((1, self.amounts.shape[1]), np.int64), np.cumsum(self.amounts, axis=0)])
        by_tile = _rank_search(self.owner, self.tile)
        by_position = _rank_search(self.owner, self.position)
        high = np.minimum(by_tile(owner, upto), by_position(owner, known))
        low = np.minimum(by_tile(owner, after), high)
        sums: Ints = total[high] - total[low]
        return sums


class _rank_search:  # noqa: N801 - reads as a function: rank_search(groups, values)(group, value)
    """For (group, value), how many entries sort at or before it; entries must be sorted by both."""

    def __init__(self, groups: Ints, values: Ints) -> None:
        self._levels = np.unique(values)
        self._width = len(self._levels) + 1
        self._keys = groups * self._width + np.searchsorted(self._levels, values, side="right")

    def __call__(self, group: Ints, value: Ints) -> Ints:
        rank = np.searchsorted(self._levels, value, side="right")
        return np.searchsorted(self._keys, group * self._width + rank, side="right").astype(np.int64)


def _add_stragglers(sums: Ints, view: WindowView, late: _Grouped, reader: Ints, now: Ints, known: Ints) -> None:
    """Add the few events that came out of order, entity by entity."""
    for entity in np.unique(late.owner):
        mine = late.owner == entity
        rows = np.flatnonzero(reader == entity)
        if not len(rows):
            continue
        tile, position, amounts = late.tile[mine], late.position[mine], late.amounts[mine]
        visible = (position[None, :] <= known[rows, None]) & (tile[None, :] <= now[rows, None])
        for w, length in enumerate(view.window_tiles):
            inside = visible & (tile[None, :] > now[rows, None] - length)
            sums[rows, w] += inside.astype(np.int64) @ amounts
