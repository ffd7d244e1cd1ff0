"""A fault in a declared view is named, with its view and column, when the file is loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from core.errors import LeakageError, UseCaseError
from core.use_case import EventSource, Field
from features.columns import feature_matrix
from features.definitions import (
    Aggregate,
    BatchView,
    DerivedView,
    FeatureSet,
    ParquetTable,
    RequestView,
    View,
    WindowView,
    feature_set,
    key_groups,
    view_digest,
)
from tests.sample_use_case import AMOUNT, SALES, SHOP, sample_use_case

HOUR = timedelta(hours=1)
COUNT = Aggregate(name="n", kind="count")
WINDOW = WindowView(name="w", entity="shop", source="sales", tile=HOUR, windows=(HOUR,), aggregates=(COUNT,))
TABLE = ParquetTable(path="shops.parquet", at="at")
BATCH = BatchView(name="b", entity="shop", source=TABLE, outputs=("size",), defaults=(0.0,), ttl=HOUR)
DERIVED = DerivedView(
    name="d", inputs=("w_n_1h", "amount", "b_size"), outputs=("sum",),
    compute=lambda c: {"sum": c["w_n_1h"] + c["b_size"]},
)  # fmt: skip


def _check(*views: View) -> None:
    replace(sample_use_case(), features=FeatureSet(views)).validate()


def _with(**changes: Any) -> WindowView:
    return replace(WINDOW, **changes)


def _aggregate(**changes: Any) -> WindowView:
    return _with(aggregates=(replace(Aggregate(name="t", kind="sum", field="amount"), **changes),))


def test_views_of_every_kind_are_accepted() -> None:
    _check(WINDOW, BATCH, DERIVED)
    _check(_aggregate(kind="distinct", field="shop"))
    for kind in ("sum", "mean", "min", "max", "last", "ratio", "distinct"):
        _check(_aggregate(kind=kind))


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (_with(entity="owner"), ("'w'", "'owner'", "shop")),
        (_with(entity=()), ("'w'", "Name one or more")),
        (_with(entity=("shop", "shop")), ("'w'", "each once")),
        (_with(source="nowhere"), ("'w'", "'nowhere'", "sales")),
        (_with(tile=timedelta(milliseconds=1)), ("'w'", "tile", "whole seconds")),
        (_with(windows=(timedelta(minutes=90),)), ("'w'", "1:30:00", "no multiple")),
        (_with(windows=()), ("'w'", "no window")),
        (_aggregate(kind="median"), ("'w'", "'t'", "'median'", "Use one of: count")),
        (_aggregate(kind="count"), ("'w'", "'t'", "'count'", "'amount'")),
        (_aggregate(field=None), ("'w'", "'t'", "its field")),
        (_aggregate(field="price"), ("'w'", "'t'", "'price'", "shop, amount")),
        (_aggregate(field="shop"), ("'w'", "'t'", "numeric", "'shop'")),
        (_aggregate(over="amount"), ("'w'", "'t'", "Only a ratio")),
        (_aggregate(kind="ratio", over="price"), ("'w'", "'t'", "'price'")),
        (_aggregate(resolution=0.0), ("'w'", "'t'", "resolution")),
        (_aggregate(default=float("inf")), ("'w'", "'t'", "infinite default")),
        (replace(BATCH, outputs=(), defaults=()), ("'b'", "no output")),
        (replace(BATCH, outputs=("generation",)), ("'b'", "'generation'", "every batch view has", "entity, at")),
        (replace(BATCH, defaults=()), ("'b'", "1 outputs and 0 defaults")),
        (replace(BATCH, defaults=(float("inf"),)), ("'b'", "'size'", "infinite")),
        (replace(BATCH, ttl=timedelta(0)), ("'b'", "time-to-live")),
        (replace(BATCH, source="sales"), ("'b'", "no compute")),
        (replace(DERIVED, inputs=("w_n_2h",)), ("'d'", "'w_n_2h'", "declared before")),
        (RequestView(name="r", inputs=("size",), outputs=(), compute=lambda c: {}), ("'r'", "'size'", "at, shop")),
    ],
)
def test_a_fault_is_named(view: View, words: tuple[str, ...]) -> None:
    with pytest.raises(UseCaseError) as caught:
        _check(view)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "view",
    [
        _with(windows=(-HOUR,)),
        _with(lateness=-HOUR),
        replace(BATCH, source=replace(TABLE, known_after=-HOUR)),
        RequestView(name="r", inputs=("receipt",), outputs=("x",), compute=lambda c: {"x": c["receipt"]}),
        RequestView(
            name="r", inputs=("amount",), outputs=("x",), compute=lambda c: {"x": c["amount"] - c["amount"].mean()}
        ),
    ],
)  # fmt: skip
def test_a_view_that_can_read_the_future_is_refused(view: View) -> None:
    with pytest.raises(LeakageError):
        _check(view)


def test_a_derived_feature_may_not_read_one_declared_after_it() -> None:
    with pytest.raises(UseCaseError, match="'w_n_1h'"):
        _check(DERIVED, WINDOW, BATCH)


@pytest.mark.parametrize("dtype", ["float", "int"])
def test_a_key_is_the_same_in_events_as_among_the_entities(dtype: Any) -> None:
    sales = EventSource(name="sales", fields=(replace(SHOP, dtype=dtype), AMOUNT))
    with pytest.raises(UseCaseError, match=f"'w'.*'shop' is {dtype} in events of 'sales' and str as an entity"):
        replace(sample_use_case(), sources=(sales,), features=FeatureSet((WINDOW,))).validate()


def test_derived_features_see_stored_and_request_columns() -> None:
    features = FeatureSet((WINDOW, BATCH, DERIVED))
    stored = {"w": np.array([[2.0], [3.0]]), "b": np.array([[0.5], [1.5]])}
    matrix = feature_matrix(features, stored, {"amount": np.array([1.0, 2.0]), "at": np.array([0, 0])})
    assert matrix.tolist() == [[2.0, 0.5, 2.5], [3.0, 1.5, 4.5]]
    assert matrix.dtype == np.float32


def test_key_groups_are_those_of_all_use_cases() -> None:
    other = replace(
        sample_use_case("other"), entities=(SHOP, AMOUNT), sources=(EventSource(name="sales", fields=(SHOP, AMOUNT)),),
        features=FeatureSet((_with(entity=("shop", "amount")),)),
    )  # fmt: skip
    assert key_groups([sample_use_case(), other], "sales") == (("shop",), ("shop", "amount"))
    assert key_groups([sample_use_case()], "nothing") == ()


def test_the_digest_tells_declarations_apart() -> None:
    changes: list[Any] = [
        WINDOW, _with(lateness=HOUR), _with(tile=HOUR / 2), _aggregate(), _aggregate(kind="min"),
        _aggregate(kind="ratio"), _aggregate(kind="ratio", over="amount"), BATCH, replace(BATCH, ttl=2 * HOUR),
        replace(BATCH, source=replace(TABLE, at=None)), replace(BATCH, source=replace(TABLE, path="x")),
    ]  # fmt: skip
    digests = [view_digest("u", view) for view in changes]
    assert len(set(digests)) == len(digests)
    assert view_digest("u", WINDOW) == digests[0] != view_digest("v", WINDOW)


def test_the_sample_is_valid() -> None:
    sample_use_case().validate()
    assert {f.name for f in SALES.fields} >= {"shop", "amount"}
    assert Field(name="x", dtype="int").nullable is False
    assert feature_set(sample_use_case()).stored_views
