"""Declaring features: views over requests, events, tables and other features, gathered in a FeatureSet."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from core.errors import UseCaseError
from core.use_case import UseCase
from features.tables import CsvTable, ParquetTable, SqlQuery, Table
from features.view_checks import check_views
from features.views import (
    MAX_AHEAD,
    Aggregate,
    BatchView,
    Columns,
    DerivedView,
    RequestView,
    StoredView,
    View,
    WindowView,
    key_group,
    short_duration,
)

__all__ = [
    "MAX_AHEAD", "Aggregate", "BatchView", "Columns", "CsvTable", "DerivedView", "FeatureSet", "ParquetTable",
    "RequestView", "SqlQuery", "StoredView", "Table", "View", "WindowView", "feature_set", "key_group", "key_groups",
    "largest_lateness_us", "short_duration", "view_digest",
]  # fmt: skip


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
    def stored_views(self) -> tuple[StoredView, ...]:
        """Views whose values are kept online: window and batch views, as declared."""
        return tuple(v for v in self.views if isinstance(v, WindowView | BatchView))

    @property
    def lateness(self) -> timedelta:
        """How far a question's time may lie behind now: the smallest lateness of its window views (default 1 h)."""
        return min((v.lateness for v in self.window_views), default=timedelta(hours=1))

    def spec(self) -> dict[str, Any]:
        """What the features are, as JSON: stored with every version."""
        return {"columns": list(self.columns), "views": [_view_spec(view) for view in self.views]}

    def validate(self, use_case: UseCase) -> None:
        """Raise UseCaseError, naming view and column, unless every view reads what the use case declares."""
        check_views(use_case, self.views)


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


def view_digest(use_case: str, view: StoredView) -> str:
    """Eight hex digits that change with whatever changes the stored values of a use case's view."""
    text = json.dumps([use_case, _view_spec(view)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def key_groups(use_cases: Iterable[UseCase], source: str) -> tuple[tuple[str, ...], ...]:
    """The combinations of entity fields by which window views of any use case read a source, sorted; maybe none."""
    found = {v.keys for u in use_cases for v in feature_set(u).window_views if v.source == source}
    return tuple(sorted(found, key=key_group))


def largest_lateness_us(use_cases: Iterable[UseCase], source: str) -> int | None:
    """After how many microseconds an event of the source is too late for every window view; None: never."""
    found = [v.lateness_us for u in use_cases for v in feature_set(u).window_views if v.source == source]
    return max(found, default=None)


def _view_spec(view: View) -> dict[str, Any]:
    if isinstance(view, RequestView | DerivedView):
        kind = "request" if isinstance(view, RequestView) else "derived"
        return {"kind": kind, "name": view.name, "inputs": list(view.inputs), "columns": list(view.columns)}
    base = {"name": view.name, "entity": list(view.keys), "columns": list(view.columns)}
    if isinstance(view, BatchView):
        of_events = isinstance(view.source, str)
        return base | {
            "kind": "batch",
            "source": view.source if of_events else cast(Table, view.source).spec(),
            "ttl_s": view.ttl.total_seconds(),
            "lookback_s": view.lookback.total_seconds() if of_events else None,
            "defaults": list(view.defaults),
            "code": hashlib.sha256(inspect.getsource(view.compute).encode()).hexdigest()[:16] if view.compute else None,
        }
    aggregates = [
        {"name": a.name, "kind": a.kind, "field": a.field, "over": a.over, "resolution": a.resolution,
         "default": a.default}
        for a in view.aggregates
    ]  # fmt: skip
    return base | {
        "kind": "window",
        "source": view.source,
        "tile_s": view.tile.total_seconds(),
        "windows_s": [w.total_seconds() for w in view.windows],
        "slots": view.slots,
        "lateness_s": view.lateness.total_seconds(),
        "aggregates": aggregates,
    }
