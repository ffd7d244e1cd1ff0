"""Logged events as columns, with what several window views need of them computed once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from features import sketch, tiles

Ints = npt.NDArray[np.int64]


class LoggedEvents:
    """n events as columns, in the order of their positions. Derived columns are computed once, for all views.

    Args:
        at_us: when they happened, microseconds since 1970 UTC, shape (n,).
        known_us: when they became known.
        position: their position in the log of their partition, rising; None if no question goes by it.
        fields: what aggregates read: float64 with NaN for null, or objects of str with "" for null.
    """

    def __init__(
        self, at_us: Ints, known_us: Ints, position: Ints | None, fields: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        self.at_us = at_us
        self.known_us = known_us
        self.position = position
        self._fields = fields
        self._derived: dict[object, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        self._tiles: dict[int, Ints] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.at_us)

    @cached_property
    def at_bounds(self) -> tuple[int, int]:
        """When the first and the last happened."""
        return _bounds(self.at_us)

    @cached_property
    def known_bounds(self) -> tuple[int, int]:
        """When the first and the last became known."""
        return _bounds(self.known_us)

    @cached_property
    def delay_bounds(self) -> tuple[int, int]:
        """The shortest and the longest time from happening to becoming known."""
        return _bounds(self.known_us - self.at_us)

    @cached_property
    def is_known_in_order(self) -> bool:
        """Whether none became known before one of a lower position."""
        return bool(np.all(self.known_us[1:] >= self.known_us[:-1]))

    def tile(self, tile_us: int) -> Ints:
        """The tile of each, of a given length."""
        with self._lock:
            if tile_us not in self._tiles:
                self._tiles[tile_us] = self.at_us // tile_us
            return self._tiles[tile_us]

    def multiples(self, measure: tiles.Measure) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Which events have the field, and its whole multiples of the resolution."""
        with self._lock:
            if measure not in self._derived:
                self._derived[measure] = tiles.multiples_of(self._fields, measure)
            return self._derived[measure]

    def sketched(self, name: str) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """Which register of a sketch each event's value goes to, and the rank it asks for; 0 for null."""
        with self._lock:
            if name not in self._derived:
                values = self._fields[name]
                register, rank = sketch.registers_and_ranks(values)
                is_null = values == "" if values.dtype == object else np.isnan(values.astype(np.float64))
                self._derived[name] = register, np.where(is_null, np.uint8(0), rank)
            return self._derived[name]


def _bounds(values: Ints) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if len(values) else (0, 0)
