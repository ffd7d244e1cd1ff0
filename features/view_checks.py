"""Checking declared views when a use case is loaded: every fault names the view and the column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import LeakageError, UseCaseError
from core.use_case import Field, UseCase
from features.views import AGGREGATE_KINDS, Aggregate, BatchView, DerivedView, RequestView, View, WindowView

_PROBE_ROWS = 8
_BATCH_COLUMNS = ("entity", "at", "known_at", "generation")
_NUMERIC = ("sum", "mean", "min", "max", "last", "ratio")


def check_views(use_case: UseCase, views: Sequence[View]) -> None:
    """Check every view against what the use case declares.

    Raises:
        UseCaseError: naming the view and the column at fault, and the remedy.
        LeakageError: if a view can read the label or the future.
    """
    _require_unique(use_case, "view", [view.name for view in views])
    _require_unique(use_case, "feature", [column for view in views for column in view.columns])
    before: list[str] = []
    for view in views:
        if isinstance(view, RequestView):
            _check_request_view(use_case, view)
        elif isinstance(view, DerivedView):
            _check_derived_view(use_case, view, before)
        elif isinstance(view, WindowView):
            _check_keys(use_case, view)
            _check_window_view(use_case, view)
        else:
            _check_keys(use_case, view)
            _check_batch_view(use_case, view)
        before += view.columns


def _require_unique(use_case: UseCase, what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UseCaseError(use_case.name, f"declares the {what} {twice[0]!r} twice", f"Rename one {what}.")


def _check_keys(use_case: UseCase, view: WindowView | BatchView) -> None:
    where, entities = f"view {view.name!r}", {entity.name: entity for entity in use_case.entities}
    if not view.keys or len(set(view.keys)) != len(view.keys):
        raise UseCaseError(use_case.name, f"{where} is keyed by {view.keys}", "Name one or more entities, each once.")
    for key in view.keys:
        if key not in entities:
            raise UseCaseError(
                use_case.name,
                f"{where} is keyed by {key!r}, which is no entity",
                f"Use one of: {', '.join(entities)}.",
            )
        if entities[key].dtype == "float":
            raise UseCaseError(
                use_case.name, f"{where} is keyed by {key!r}, which is a float", "Use an int or a str as entity."
            )
    if not isinstance(view.source, str):
        return
    sources = {source.name: source for source in use_case.sources}
    if view.source not in sources:
        raise UseCaseError(
            use_case.name,
            f"{where} reads the source {view.source!r}, which is not declared",
            f"Use one of: {', '.join(sources) or 'none is declared'}.",
        )
    missing = [key for key in view.keys if key not in {f.name for f in sources[view.source].fields}]
    if missing:
        raise UseCaseError(
            use_case.name,
            f"{where}: events of {view.source!r} have no field {missing[0]!r}",
            "Add the entity to the source's fields.",
        )
    fields = {f.name: f for f in sources[view.source].fields}
    for key in view.keys:
        if fields[key].dtype != entities[key].dtype:
            raise UseCaseError(
                use_case.name,
                f"{where}: {key!r} is {fields[key].dtype} in events of {view.source!r} and {entities[key].dtype} "
                "as an entity",
                "Declare both alike, as int or str.",
            )


def _check_batch_view(use_case: UseCase, view: BatchView) -> None:
    where = f"view {view.name!r}"
    if not view.outputs:
        raise UseCaseError(use_case.name, f"{where} has no output", "Name the columns it yields.")
    taken = [output for output in view.outputs if output in _BATCH_COLUMNS]
    if taken:
        raise UseCaseError(
            use_case.name,
            f"{where} has the output {taken[0]!r}, a column that every batch view has",
            f"Use another name than {', '.join(_BATCH_COLUMNS)}.",
        )
    if len(view.defaults) != len(view.outputs):
        raise UseCaseError(
            use_case.name,
            f"{where} has {len(view.outputs)} outputs and {len(view.defaults)} defaults",
            "Give one default per output.",
        )
    broken = [o for o, default in zip(view.outputs, view.defaults, strict=True) if math.isinf(default)]
    if broken:
        raise UseCaseError(
            use_case.name, f"{where}: the default of {broken[0]!r} is infinite", "Use a finite number or NaN."
        )
    if view.ttl <= timedelta(0):
        raise UseCaseError(use_case.name, f"{where} has a time-to-live of {view.ttl}", "Use a positive length.")
    if isinstance(view.source, str):
        if view.compute is None:
            raise UseCaseError(
                use_case.name, f"{where} reads events and has no compute", "Say how its outputs are computed from them."
            )
        if view.lookback <= timedelta(0):
            raise UseCaseError(use_case.name, f"{where} looks back {view.lookback}", "Use a positive length.")
    elif view.source.known_after < timedelta(0):
        raise LeakageError(
            use_case.name,
            f"{where}: its table's rows are known {-view.source.known_after} before they are true",
            "Use a known_after of zero or more.",
        )


def _check_window_view(use_case: UseCase, view: WindowView) -> None:
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
    fields = {f.name: f for f in use_case.source(view.source).fields}
    for aggregate in view.aggregates:
        _check_aggregate(use_case, where, aggregate, fields)


def _check_aggregate(use_case: UseCase, where: str, aggregate: Aggregate, fields: Mapping[str, Field]) -> None:
    what = f"{where}: aggregate {aggregate.name!r}"
    if aggregate.kind not in AGGREGATE_KINDS:
        raise UseCaseError(
            use_case.name, f"{what} has the kind {aggregate.kind!r}", f"Use one of: {', '.join(AGGREGATE_KINDS)}."
        )
    if (aggregate.kind == "count") != (aggregate.field is None):
        raise UseCaseError(
            use_case.name,
            f"{what} is a {aggregate.kind!r} of the field {aggregate.field!r}",
            "Give every aggregate but a count its field, and a count none.",
        )
    if aggregate.over is not None and aggregate.kind != "ratio":
        raise UseCaseError(use_case.name, f"{what} is a {aggregate.kind!r} over a field", "Only a ratio has an over.")
    if not (aggregate.resolution > 0 and math.isfinite(aggregate.resolution)):
        raise UseCaseError(use_case.name, f"{what} has the resolution {aggregate.resolution}", "Use a number above 0.")
    if math.isinf(aggregate.default):
        raise UseCaseError(use_case.name, f"{what} has an infinite default", "Use a finite number or NaN.")
    for name in (aggregate.field, aggregate.over):
        if name is None:
            continue
        if name not in fields:
            raise UseCaseError(
                use_case.name, f"{what} reads {name!r}, no field of its source", f"Use one of: {', '.join(fields)}."
            )
        if aggregate.kind in _NUMERIC and fields[name].dtype == "str":
            raise UseCaseError(
                use_case.name,
                f"{what} needs a numeric field of its source, got {name!r}",
                f"Use one of: {', '.join(n for n, f in fields.items() if f.dtype != 'str')}.",
            )


def _check_request_view(use_case: UseCase, view: RequestView) -> None:
    known = {f.name: f for f in use_case.request_fields}
    _check_inputs(use_case, view, ["at", *known], "no field of the request")
    _probe(use_case, view, known, ())


def _check_derived_view(use_case: UseCase, view: DerivedView, before: Iterable[str]) -> None:
    known = {f.name: f for f in use_case.request_fields}
    features = tuple(name for name in before if name not in known)
    _check_inputs(use_case, view, ["at", *known, *features], "no request field and no feature declared before it")
    _probe(use_case, view, known, features)


def _check_inputs(use_case: UseCase, view: RequestView | DerivedView, allowed: Sequence[str], otherwise: str) -> None:
    late = {use_case.label.name, *use_case.label.known_only_after}
    for name in view.inputs:
        if name in late and name not in allowed:
            raise LeakageError(
                use_case.name,
                f"view {view.name!r} reads {name!r}, which is known only with the label",
                "Leave it out of the view's inputs.",
            )
        if name not in allowed:
            raise UseCaseError(
                use_case.name, f"view {view.name!r} reads {name!r}, {otherwise}", f"Use one of: {', '.join(allowed)}."
            )


def _probe(
    use_case: UseCase, view: RequestView | DerivedView, known: Mapping[str, Field], features: Sequence[str]
) -> None:
    """Run the function on made-up rows, together and one by one: a row-wise function answers alike."""
    rng = np.random.default_rng(0)
    sample = {
        name: rng.normal(size=_PROBE_ROWS) if name in features else _sample_column(known.get(name), rng)
        for name in view.inputs
    }
    try:
        with np.errstate(all="ignore"):  # made-up rows may lie outside the function's domain
            together = view.compute(sample)
            alone = [view.compute({name: v[i : i + 1] for name, v in sample.items()}) for i in range(_PROBE_ROWS)]
    except Exception as error:  # the function is the user's: whatever it raises is a fault of the file
        raise UseCaseError(
            use_case.name,
            f"view {view.name!r} fails on sample rows ({type(error).__name__}: {error})",
            "Make it accept any value its inputs allow.",
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


def _sample_column(declared: Field | None, rng: np.random.Generator) -> npt.NDArray[Any]:
    if declared is None:
        return np.asarray(1_549_065_600_000_000 + rng.integers(0, 10**13, _PROBE_ROWS), dtype=np.int64)
    if declared.dtype == "str":
        return np.array([f"s{value}" for value in rng.integers(0, 5, _PROBE_ROWS)], dtype=object)
    low = declared.ge if declared.ge is not None else -1e3
    high = declared.le if declared.le is not None else max(low, 0) + 1e3
    if declared.dtype == "int" and not declared.nullable:
        return rng.integers(int(low), int(high) + 1, _PROBE_ROWS, dtype=np.int64)
    values = rng.uniform(low, high, _PROBE_ROWS)
    if declared.nullable:
        values[0] = np.nan
    return values
