"""Declaring features: views over requests, events and tables, gathered in a FeatureSet."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import LeakageError, UseCaseError
from core.use_case import Field, UseCase

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, npt.NDArray[Any]]
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
class Aggregate:
    """One running aggregate of a window view.

    Sums are kept as whole multiples of `resolution`, so they do not depend on the order of events and
    agree bit for bit wherever they are computed.

    Args:
        name: names the feature, with the window appended.
        kind: ``count`` of events, ``sum`` or ``mean`` of a field.
        field: the event field summed; None for ``count``. Null values are left out of sums and means.
        resolution: smallest difference kept of the field's values.
        default: value of a mean over no event.
    """

    name: str
    kind: Literal["count", "sum", "mean"]
    field: str | None = None
    resolution: float = 1e-6
    default: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WindowView:
    """Aggregates of one entity's past events over trailing windows, kept in tiles.

    The value at time t of a window W with tile r covers the tiles (⌊t/r⌋-W/r, ⌊t/r⌋], as known at t.

    Args:
        name: the view's name.
        entity: the entity, which is also a field of the source's events.
        source: the event source.
        tile: length of a tile; whole seconds.
        windows: lengths of the windows, each a multiple of the tile.
        aggregates: what is computed over each window.
        lateness: how far a reader's time may lie behind the newest event without losing exactness, and
            how late an event may come and still be counted by such a reader.
    """

    name: str
    entity: str
    source: str
    tile: timedelta
    windows: tuple[timedelta, ...]
    aggregates: tuple[Aggregate, ...]
    lateness: timedelta = timedelta(hours=6)

    @property
    def columns(self) -> tuple[str, ...]:
        """``<view>_<aggregate>_<window>``, windows outermost."""
        return tuple(f"{self.name}_{a.name}_{short_duration(w)}" for w in self.windows for a in self.aggregates)

    @property
    def tile_us(self) -> int:
        """Length of a tile in microseconds."""
        return int(self.tile.total_seconds()) * 1_000_000

    @property
    def window_tiles(self) -> tuple[int, ...]:
        """Length of each window in tiles."""
        return tuple(int(w / self.tile) for w in self.windows)

    @property
    def slots(self) -> int:
        """Tiles kept per entity: the longest window, the lateness, what events may lie ahead, and one more."""
        return max(self.window_tiles) + -(-(self.lateness + MAX_AHEAD) // self.tile) + 1

    @property
    def measures(self) -> tuple[tuple[str, float], ...]:
        """The (field, resolution) pairs that tiles hold a count and a sum of, in order, each once."""
        pairs = ((a.field, a.resolution) for a in self.aggregates if a.field is not None)
        return tuple(dict.fromkeys(pairs))


@dataclass(frozen=True, kw_only=True)
class BatchView:
    """Slow-moving values of an entity, computed by the ``materialize`` flow from the event log.

    Args:
        name: the view's name.
        entity: the entity; the computed frame's index.
        source: the event source it is computed from.
        outputs: the columns it yields.
        defaults: value of each output where the entity is unknown or its row has outlived `ttl`.
        ttl: age (against ``as_of``) beyond which a row no longer counts.
        lookback: how far back `compute` sees events.
        compute: pure: frame of events known at ``as_of`` (its columns: id, at, known_at, fields) and
            ``as_of`` -> frame indexed by entity with the output columns, floats.
    """

    name: str
    entity: str
    source: str
    outputs: tuple[str, ...]
    defaults: tuple[float, ...]
    ttl: timedelta
    lookback: timedelta
    compute: Callable[[pd.DataFrame, datetime], pd.DataFrame]

    @property
    def columns(self) -> tuple[str, ...]:
        """``<view>_<output>``."""
        return tuple(f"{self.name}_{output}" for output in self.outputs)


View = RequestView | WindowView | BatchView


@dataclass(frozen=True)
class FeatureSet:
    """The feature views of a use case, in the order of the matrix.

    Example:
        >>> hour = RequestView(name="clock", inputs=("at",), outputs=("hour",),
        ...                    compute=lambda c: {"hour": c["at"] // 3_600_000_000 % 24})
        >>> FeatureSet((hour,)).columns
        ('hour',)
    """

    views: tuple[View, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all feature columns, in the order of the matrix."""
        return tuple(column for view in self.views for column in view.columns)

    @property
    def request_columns(self) -> tuple[str, ...]:
        """Names of those computed from the request alone."""
        return tuple(column for view in self.request_views for column in view.columns)

    @property
    def request_views(self) -> tuple[RequestView, ...]:
        """Views over the request."""
        return tuple(v for v in self.views if isinstance(v, RequestView))

    @property
    def window_views(self) -> tuple[WindowView, ...]:
        """Views over trailing windows of events."""
        return tuple(v for v in self.views if isinstance(v, WindowView))

    @property
    def batch_views(self) -> tuple[BatchView, ...]:
        """Views computed in batches."""
        return tuple(v for v in self.views if isinstance(v, BatchView))

    @property
    def lateness(self) -> timedelta:
        """How far a question's time may lie behind now: the smallest lateness of its window views (default 1 h)."""
        return min((v.lateness for v in self.window_views), default=timedelta(hours=1))

    def spec(self) -> dict[str, Any]:
        """What the features are, as JSON: stored with every version."""
        return {"columns": list(self.columns), "views": [_view_spec(view) for view in self.views]}

    def validate(self, use_case: UseCase) -> None:
        """Raise UseCaseError unless every view reads entities, fields and sources the use case declares."""
        _require_unique(use_case, "view", [view.name for view in self.views])
        _require_unique(use_case, "feature", list(self.columns))
        for view in self.views:
            if isinstance(view, RequestView):
                _validate_request_view(use_case, view)
            else:
                _validate_keyed_view(use_case, view)
                if isinstance(view, WindowView):
                    _validate_window_view(use_case, view)
                elif len(view.defaults) != len(view.outputs):
                    raise UseCaseError(
                        use_case.name,
                        f"view {view.name!r} has {len(view.outputs)} outputs and {len(view.defaults)} defaults",
                        "Give one default per output.",
                    )


def view_digest(view: WindowView | BatchView) -> str:
    """Eight hex digits that change with whatever changes the stored values of a view."""
    return hashlib.sha256(json.dumps(_view_spec(view), sort_keys=True).encode()).hexdigest()[:8]


def feature_set(use_case: UseCase) -> FeatureSet:
    """The use case's features, as the concrete type.

    Raises:
        UseCaseError: if they are of another type.
    """
    if not isinstance(use_case.features, FeatureSet):
        raise UseCaseError(
            use_case.name,
            f"its features are a {type(use_case.features).__name__}",
            "Use features=FeatureSet((view, …)) from features.definitions.",
        )
    return use_case.features


def _view_spec(view: View) -> dict[str, Any]:
    if isinstance(view, RequestView):
        return {"kind": "request", "name": view.name, "inputs": list(view.inputs), "columns": list(view.columns)}
    base = {"name": view.name, "entity": view.entity, "source": view.source, "columns": list(view.columns)}
    if isinstance(view, BatchView):
        return base | {
            "kind": "batch",
            "ttl_s": view.ttl.total_seconds(),
            "lookback_s": view.lookback.total_seconds(),
            "defaults": list(view.defaults),
            "code": hashlib.sha256(inspect.getsource(view.compute).encode()).hexdigest()[:16],
        }
    aggregates = [
        {"name": a.name, "kind": a.kind, "field": a.field, "resolution": a.resolution, "default": a.default}
        for a in view.aggregates
    ]
    return base | {
        "kind": "window",
        "tile_s": view.tile.total_seconds(),
        "windows_s": [w.total_seconds() for w in view.windows],
        "slots": view.slots,
        "aggregates": aggregates,
    }


def _require_unique(use_case: UseCase, what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UseCaseError(use_case.name, f"declares the {what} {twice[0]!r} twice", f"Rename one {what}.")


def _validate_keyed_view(use_case: UseCase, view: WindowView | BatchView) -> None:
    if view.entity not in {entity.name for entity in use_case.entities}:
        raise UseCaseError(
            use_case.name,
            f"view {view.name!r} is keyed by {view.entity!r}, which is no entity",
            f"Use one of: {', '.join(e.name for e in use_case.entities)}.",
        )
    sources = {source.name: source for source in use_case.sources}
    if view.source not in sources:
        raise UseCaseError(
            use_case.name,
            f"view {view.name!r} reads the source {view.source!r}, which is not declared",
            f"Use one of: {', '.join(sources) or 'none is declared'}.",
        )
    if view.entity not in {f.name for f in sources[view.source].fields}:
        raise UseCaseError(
            use_case.name,
            f"view {view.name!r}: events of {view.source!r} have no field {view.entity!r}",
            "Add the entity to the source's fields.",
        )


def _validate_window_view(use_case: UseCase, view: WindowView) -> None:
    where = f"view {view.name!r}"
    if view.tile < timedelta(seconds=1) or view.tile % timedelta(seconds=1):
        raise UseCaseError(use_case.name, f"{where} has a tile of {view.tile}", "Use whole seconds, at least one.")
    for window in view.windows:
        if window <= timedelta(0):
            raise LeakageError(
                use_case.name, f"{where} has the window {window}, which reads the future", "Use a positive length."
            )
        if window % view.tile:
            raise UseCaseError(
                use_case.name, f"{where}: window {window} is no multiple of its tile {view.tile}", "Adjust one of them."
            )
    if not view.windows or not view.aggregates:
        raise UseCaseError(use_case.name, f"{where} has no window or no aggregate", "Give at least one of each.")
    if view.lateness < timedelta(0):
        raise LeakageError(use_case.name, f"{where} has lateness {view.lateness}", "Use zero or more.")
    fields: dict[str, Field] = {f.name: f for f in use_case.source(view.source).fields}
    for aggregate in view.aggregates:
        _validate_aggregate(use_case, where, aggregate, fields)


def _validate_aggregate(use_case: UseCase, where: str, aggregate: Aggregate, fields: Mapping[str, Field]) -> None:
    if aggregate.kind not in ("count", "sum", "mean") or (aggregate.kind == "count") != (aggregate.field is None):
        raise UseCaseError(
            use_case.name,
            f"{where}: aggregate {aggregate.name!r} is a {aggregate.kind!r} of the field {aggregate.field!r}",
            "Use a count without a field, or a sum or mean of a field.",
        )
    if not aggregate.resolution > 0:
        raise UseCaseError(
            use_case.name,
            f"{where}: aggregate {aggregate.name!r} has the resolution {aggregate.resolution}",
            "Use a number above 0.",
        )
    if aggregate.field is None:
        return
    if aggregate.field not in fields or fields[aggregate.field].dtype == "str":
        raise UseCaseError(
            use_case.name,
            f"{where}: aggregate {aggregate.name!r} needs a numeric field of its source, got {aggregate.field!r}",
            f"Use one of: {', '.join(n for n, f in fields.items() if f.dtype != 'str')}.",
        )


def _validate_request_view(use_case: UseCase, view: RequestView) -> None:
    known = {f.name: f for f in use_case.request_fields}
    late = {use_case.label.name, *use_case.label.known_only_after}
    for name in view.inputs:
        if name in late:
            raise LeakageError(
                use_case.name,
                f"view {view.name!r} reads {name!r}, which is known only with the label",
                "Leave it out of the view's inputs.",
            )
        if name != "at" and name not in known:
            raise UseCaseError(
                use_case.name,
                f"view {view.name!r} reads {name!r}, which is no field of the request",
                f"Use one of: at, {', '.join(known)}.",
            )
    _probe_request_view(use_case, view, known)


def _probe_request_view(use_case: UseCase, view: RequestView, known: Mapping[str, Field]) -> None:
    """Run the function on made-up rows, together and one by one: a row-wise function answers alike."""
    rng = np.random.default_rng(0)
    sample = {name: _sample_column(known.get(name), rng) for name in view.inputs}
    try:
        together = view.compute(sample)
        alone = [view.compute({name: values[i : i + 1] for name, values in sample.items()}) for i in range(_PROBE_ROWS)]
    except Exception as error:  # the function is the user's: whatever it raises is a fault of the file
        raise UseCaseError(
            use_case.name,
            f"view {view.name!r} fails on sample rows ({type(error).__name__}: {error})",
            "Make it accept any value its fields allow.",
        ) from error
    for output in view.outputs:
        if output not in together:
            raise UseCaseError(
                use_case.name, f"view {view.name!r} does not return its output {output!r}", "Return every output."
            )
        whole = np.asarray(together[output], dtype=np.float32)
        single = np.concatenate([np.asarray(part[output], dtype=np.float32) for part in alone])
        if whole.shape != (_PROBE_ROWS,) or not np.array_equal(whole, single, equal_nan=True):
            raise LeakageError(
                use_case.name,
                f"feature {output!r} of view {view.name!r} depends on other rows, so it can read the future",
                "Compute each row from that row alone.",
            )


_PROBE_ROWS = 8


def _sample_column(declared: Field | None, rng: np.random.Generator) -> npt.NDArray[Any]:
    if declared is None:
        return np.asarray(1_549_065_600_000_000 + rng.integers(0, 10**13, _PROBE_ROWS), dtype=np.int64)
    if declared.dtype == "str":
        return np.array([f"s{value}" for value in rng.integers(0, 5, _PROBE_ROWS)], dtype=object)
    low = declared.ge if declared.ge is not None else -1e3
    high = declared.le if declared.le is not None else max(low, 0) + 1e3
    if declared.dtype == "int":
        return rng.integers(int(low), int(high) + 1, _PROBE_ROWS, dtype=np.int64)
    values = rng.uniform(low, high, _PROBE_ROWS)
    if declared.nullable:
        values[0] = np.nan
    return values
