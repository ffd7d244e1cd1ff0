"""From packed values, as read from Redis, to the feature columns of one stored view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features import tiles
from features.batch.published import NEVER_US, batch_values, head, seen, ttl_us, version_dtype
from features.definitions import BatchView, WindowView
from features.online.packing import unpack_each

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Places = npt.NDArray[np.intp] | None
Degraded = list[list[str]]


class WindowBlock:
    """The columns of a window view.

    Args:
        view: the view.
    """

    def __init__(self, view: WindowView) -> None:
        self.view = view
        self._width = tiles.layout(view).width
        self._lengths = np.array(view.window_tiles, dtype=np.int64)
        self._unknown = f"{view.name}: unknown entity"

    def read(
        self, packed: Sequence[bytes | None], place: Places, at_us: Ints, degraded: Degraded
    ) -> tuple[Array, Ints]:
        """The features of n requests.

        Args:
            packed: values of m entities.
            place: which of them each request asks about, (n,); None: each its own.
            at_us: the requests' times, (n,).
            degraded: of each request, why values are defaults; added to.

        Returns:
            Shape (n, columns) float64, and the position of each value (n,), 0 where there is none.
        """
        position, owner, rows = unpack_each(packed, self._width)
        asked = np.arange(len(at_us)) if place is None else place
        first, stop = self._runs(owner, rows[:, 0], asked, at_us // self.view.tile_us)
        known = position if place is None else position[place]
        if not known.all():
            _note(degraded, known == 0, self._unknown)
        return tiles.values(self.view, tiles.fold(self.view, rows, first, stop)), known

    def _runs(self, owner: Ints, tile: Ints, asked: Array, now: Ints) -> tuple[Ints, Ints]:
        """Where the rows of each window of each request begin and end, both (n, windows)."""
        shape = (len(asked), len(self._lengths))
        if not len(tile):
            return np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        low = int(tile.min())
        span = int(tile.max()) - low + 1
        order = owner * span + (tile - low)
        base, after = asked * span, now - low + 1
        stop = np.searchsorted(order, base + np.minimum(np.maximum(after, 0), span))
        since = np.minimum(np.maximum(after[:, None] - self._lengths, 0), span)
        first = np.searchsorted(order, base[:, None] + since)
        return first.astype(np.int64), np.broadcast_to(stop[:, None], shape)


class BatchBlock:
    """The columns of a batch view.

    Args:
        view: the view.
    """

    def __init__(self, view: BatchView) -> None:
        self.view = view
        self._dtype = version_dtype(len(view.outputs))
        self._size = self._dtype.itemsize
        self._ttl_us = ttl_us(view)
        self._unknown, self._stale = f"{view.name}: unknown entity", f"{view.name}: stale"

    def read(
        self, packed: Sequence[bytes | None], pointer: int, place: Places, at_us: Ints, degraded: Degraded
    ) -> Array:
        """The features of n requests, (n, outputs), float32 or float64.

        Args:
            packed: values of m entities.
            pointer: the newest generation that readers see.
            place: which of them each request asks about, (n,); None: each its own.
            at_us: the requests' times, (n,).
            degraded: of each request, why values are defaults; added to.
        """
        rows = self._read_plain(packed, pointer, place, at_us)
        if rows is not None:
            return rows
        versions = self._versions(packed, pointer)
        if place is not None:
            versions = versions[place]
        values, unknown, stale = batch_values(self.view, versions["at_us"], versions["values"], at_us)
        _note(degraded, unknown, self._unknown)
        _note(degraded, stale, self._stale)
        return values

    def is_only_newer(self, packed: Sequence[bytes | None], pointer: int) -> bool:
        """Whether an entity has versions, but none that a reader at `pointer` sees."""
        return any(value is not None and seen(value, self._size, pointer) is None for value in packed)

    def _read_plain(self, packed: Sequence[bytes | None], pointer: int, place: Places, at_us: Ints) -> Array | None:
        """The common case, at once: each value is one version that is seen, alive and without nulls. Else None."""
        if not packed or None in packed:
            return None
        joined = b"".join(packed)  # type: ignore[arg-type]
        if len(joined) != self._size * len(packed):
            return None
        rows = np.frombuffer(joined, dtype=self._dtype)
        if len(rows) == 1 and len(at_us) == 1:
            generation, row_at_us = head(joined)
            is_plain = generation <= pointer and int(at_us[0]) - row_at_us <= self._ttl_us
        else:
            is_plain = int(rows["generation"].max()) <= pointer
            if place is not None and is_plain:
                rows = rows[place]
            is_plain = is_plain and int((at_us - rows["at_us"]).max()) <= self._ttl_us
        values: Array = rows["values"]
        return values if is_plain and not np.isnan(values).any() else None

    def _versions(self, packed: Sequence[bytes | None], pointer: int) -> Array:
        """What the reader sees of each entity."""
        found = np.zeros(len(packed), dtype=self._dtype)
        found["at_us"] = NEVER_US
        for i, value in enumerate(packed):
            version = seen(value, self._size, pointer)
            if version is not None:
                found[i] = np.frombuffer(version, dtype=self._dtype)[0]
        return found


def _note(degraded: Degraded, where: npt.NDArray[np.bool_], reason: str) -> None:
    for i in np.flatnonzero(where).tolist():
        degraded[i].append(reason)
