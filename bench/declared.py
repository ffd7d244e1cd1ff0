"""What the benchmarks declare of their data, as a use case's file would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pandas as pd

from bench.data import CENT, COLUMNS, TILE_US, WINDOWS_US
from core.use_case import Classifier, EventSource, Field, History, Label, UseCase
from features.definitions import Aggregate, BatchView, FeatureSet, ParquetTable, View, WindowView

SOURCE = "purchases"
KEYS = ("user", "item")
_TTL = timedelta(days=2)  # as the peers'


def daily() -> UseCase:
    """The as-of join's: 20 columns of one table."""
    return _use_case("daily", ("entity",), [_table("daily", "entity")])


def online(views: Sequence[str]) -> UseCase:
    """The online reads': 20 columns each of one or two tables, a table per entity."""
    return _use_case("online", views, [_table(view, view) for view in views])


def windows() -> UseCase:
    """The window join's: counts and sums over 1 h, 24 h and 7 d of two keys."""
    return _windowed("windows", WINDOWS_US)


def stream() -> UseCase:
    """The stream's: counts and sums over 1 h and 24 h of two keys."""
    return _windowed("stream", WINDOWS_US[:2])


def _windowed(name: str, lengths_us: Sequence[int]) -> UseCase:
    aggregates = (Aggregate(name="n", kind="count"), Aggregate(name="sum", kind="sum", field="amount", resolution=CENT))
    views = [
        WindowView(
            name=key, entity=key, source=SOURCE, tile=timedelta(microseconds=TILE_US), aggregates=aggregates,
            windows=tuple(timedelta(microseconds=length) for length in lengths_us),
        )
        for key in KEYS
    ]  # fmt: skip
    fields = (*(Field(name=key, dtype="int") for key in KEYS), Field(name="amount", dtype="float"))
    return _use_case(name, KEYS, views, (EventSource(name=SOURCE, fields=fields),))


def _table(name: str, entity: str) -> BatchView:
    table = ParquetTable(path=f"{name}.parquet", at="at")
    return BatchView(name=name, entity=entity, source=table, outputs=COLUMNS, defaults=(0.0,) * len(COLUMNS), ttl=_TTL)


def _use_case(
    name: str, entities: Sequence[str], views: Sequence[View], sources: tuple[EventSource, ...] = ()
) -> UseCase:
    found = UseCase(
        name=name,
        description="A benchmark.",
        entities=tuple(Field(name=entity, dtype="int") for entity in entities),
        request=(),
        sources=sources,
        features=FeatureSet(tuple(views)),
        label=Label(name="bought", horizon=timedelta(hours=1), known_only_after=("receipt",)),
        estimator=_no_estimator,
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
    )
    found.validate()
    return found


def _no_estimator(columns: tuple[str, ...]) -> Classifier:
    raise NotImplementedError("The benchmarks train nothing.")
