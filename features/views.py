"""The kinds of feature view that a use case may declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy.typing as npt

from features.tables import Table

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, npt.NDArray[Any]]
AggregateKind = Literal["count", "sum", "mean", "min", "max", "last", "distinct", "ratio"]
AGGREGATE_KINDS: tuple[str, ...] = get_args(AggregateKind)
MAX_AHEAD = timedelta(minutes=5)
"""How far ahead of now an event or a question may lie; clocks differ."""
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def short_duration(span: timedelta) -> str:
    """A duration as it stands in feature names.

    Example:
        >>> short_duration(timedelta(hours=24)), short_duration(timedelta(minutes=90))
        ('1d', '90m')
    """
    seconds = int(span.total_seconds())
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def key_group(entity: str | tuple[str, ...]) -> str:
    """The text form of one or several entity fields.

    Example:
        >>> key_group("origin"), key_group(("origin", "carrier"))
        ('origin', 'origin+carrier')
    """
    return entity if isinstance(entity, str) else "+".join(entity)


@dataclass(frozen=True, kw_only=True)
class RequestView:
    """Features computed from the request alone, by the same function in training and in serving.

    Args:
        name: the view's name.
        inputs: request fields (or ``at``, as int64 microseconds since 1970 UTC) it reads.
        outputs: the features it yields.
        compute: pure, row-wise and vectorised: mapping of n-row arrays in, mapping of n-row arrays out.
            Integers arrive as int64, floats as float64 with NaN for null, strings as object arrays.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Columns], Columns]

    @property
    def columns(self) -> tuple[str, ...]:
        """The features it yields."""
        return self.outputs


@dataclass(frozen=True, kw_only=True)
class DerivedView:
    """Features computed from other features, by the same function in training and in serving.

    Args:
        name: the view's name.
        inputs: features of views declared before it, request fields, or ``at``. Features arrive as float64.
        outputs: the features it yields.
        compute: as for `RequestView`.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Columns], Columns]

    @property
    def columns(self) -> tuple[str, ...]:
        """The features it yields."""
        return self.outputs


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One running aggregate of a window view. Null values are left out of all but ``count``.

    Numbers are kept as whole multiples of `resolution`, so they do not depend on the order of events and
    agree bit for bit wherever they are computed.

    Args:
        name: names the feature, with the window appended.
        kind: ``count`` of events; ``sum``, ``mean``, ``min``, ``max`` of a field; ``last``, the value of the newest
            event (of events at the same moment, the largest value); ``distinct``, about how many values there
            were (HyperLogLog of 128 registers, standard error 9 %, within two below 20); ``ratio``, the sum of a
            field over the sum of another, or over the count of events.
        field: the event field; None for ``count``.
        over: for ``ratio``, the field summed in the denominator; None: the count of events.
        resolution: smallest difference kept of the values.
        default: the value over no event; of a ratio, also where the denominator is 0.
    """

    name: str
    kind: AggregateKind
    field: str | None = None
    over: str | None = None
    resolution: float = 1e-6
    default: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WindowView:
    """Aggregates of one entity's past events over trailing windows, kept in tiles.

    The value at time t of a window W with tile r covers the tiles (⌊t/r⌋-W/r, ⌊t/r⌋], as known at t.

    Args:
        name: the view's name.
        entity: the entity, or several in combination; each is also a field of the source's events. An event where
            one is null belongs to nobody.
        source: the event source.
        tile: length of a tile; whole seconds.
        windows: lengths of the windows, each a multiple of the tile.
        aggregates: what is computed over each window.
        lateness: how long after it happened an event may become known and still count, and how far a reader's
            time may lie behind the newest event.
    """

    name: str
    entity: str | tuple[str, ...]
    source: str
    tile: timedelta
    windows: tuple[timedelta, ...]
    aggregates: tuple[Aggregate, ...]
    lateness: timedelta = timedelta(hours=6)

    @property
    def keys(self) -> tuple[str, ...]:
        """The entity fields it is keyed by."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity

    @property
    def by(self) -> str:
        """The key group as text."""
        return key_group(self.entity)

    @property
    def columns(self) -> tuple[str, ...]:
        """``<view>_<aggregate>_<window>``, windows outermost."""
        return tuple(f"{self.name}_{a.name}_{short_duration(w)}" for w in self.windows for a in self.aggregates)

    @property
    def tile_us(self) -> int:
        """Length of a tile in microseconds."""
        return int(self.tile.total_seconds()) * 1_000_000

    @property
    def lateness_us(self) -> int:
        """The lateness in microseconds."""
        return self.lateness // timedelta(microseconds=1)

    @property
    def window_tiles(self) -> tuple[int, ...]:
        """Length of each window in tiles."""
        return tuple(int(w / self.tile) for w in self.windows)

    @property
    def slots(self) -> int:
        """Tiles kept per entity: the longest window, the lateness, what events may lie ahead, and one more."""
        return max(self.window_tiles) + -(-(self.lateness + MAX_AHEAD) // self.tile) + 1


@dataclass(frozen=True, kw_only=True)
class BatchView:
    """Slow-moving values of an entity, published by the ``materialize`` flow.

    Values are kept as float32. A null value becomes its default; an infinite one is an error.

    Args:
        name: the view's name.
        entity: the entity, or several in combination.
        source: the event source the values are computed from, or the table that holds them.
        outputs: the columns it yields.
        defaults: value of each output where the entity is unknown or its row has outlived `ttl`.
        ttl: age beyond which a row no longer counts.
        lookback: how far back `compute` sees events; without meaning for a table.
        compute: pure. Of events: frame of those known at ``as_of`` (its columns: id, at, known_at, fields) and
            ``as_of`` -> frame indexed by the entity with the outputs. Of a table, optional: rows as read and
            ``as_of`` -> frame with the outputs on the same index, each row from that row alone.
    """

    name: str
    entity: str | tuple[str, ...]
    source: str | Table
    outputs: tuple[str, ...]
    defaults: tuple[float, ...]
    ttl: timedelta
    lookback: timedelta = timedelta(days=28)
    compute: Callable[[pd.DataFrame, datetime], pd.DataFrame] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The entity fields it is keyed by."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity

    @property
    def by(self) -> str:
        """The key group as text."""
        return key_group(self.entity)

    @property
    def columns(self) -> tuple[str, ...]:
        """``<view>_<output>``."""
        return tuple(f"{self.name}_{output}" for output in self.outputs)

    @property
    def ttl_us(self) -> int:
        """The time-to-live in microseconds."""
        return self.ttl // timedelta(microseconds=1)


StoredView = WindowView | BatchView
View = RequestView | DerivedView | WindowView | BatchView
