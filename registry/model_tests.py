"""Running the tests that a use case declares on one model: pure, on rows it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from core import losses
from core.errors import EvergreenError
from core.model_tests import (
    HIGHER_IS_BETTER,
    Direction,
    Invariance,
    Minimum,
    ModelTest,
    Scalar,
    Slice,
    TinyBatch,
    default_tests,
)
from core.use_case import UseCase
from features.columns import feature_matrix
from features.definitions import BatchView, WindowView, feature_set
from features.offline.questions import field_column, to_us_array
from features.segments import Cut, segment_values
from registry import metrics

Matrix = npt.NDArray[np.float32]
Score = Callable[[Matrix], npt.NDArray[np.float32]]
_ROWS = 500  # newest rows on which fields are changed
_ALIKE = 1e-7  # scores are float32: a mean change below is rounding
_SHOWN = 3


@dataclass(frozen=True)
class Subject:
    """A model and the newest labelled rows it was not trained on, sorted by time.

    Args:
        score: asks its ONNX graph.
        reloaded: asks the graph after it was written and read again.
        X: features, float32 (n, d).
        y: labels, int64 (n,).
        requests: the questions, n rows: ``at``, entities, request fields.
    """

    score: Score
    reloaded: Score
    X: Matrix
    y: metrics.Labels
    requests: pd.DataFrame


@dataclass(frozen=True)
class TestResult:
    """How one test came out.

    Args:
        name: of the test.
        passed: whether the model does as expected.
        required: whether it is rejected if not.
        said: one clause with the numbers.
        numbers: what was measured.
        seconds: that it took.
    """

    __test__ = False  # no test of pytest's

    name: str
    passed: bool
    required: bool
    said: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class TestReport:
    """How all tests came out."""

    __test__ = False

    results: tuple[TestResult, ...]

    @property
    def failed(self) -> tuple[TestResult, ...]:
        """The required ones that failed."""
        return tuple(each for each in self.results if each.required and not each.passed)

    @property
    def said(self) -> str:
        """The outcome in one clause."""
        if self.failed:
            return "; ".join(f"{each.name}: {each.said}" for each in self.failed)
        noted = [each.name for each in self.results if not each.passed]
        more = f"; to be looked at: {', '.join(noted)}" if noted else ""
        return f"{sum(each.passed for each in self.results)} of {len(self.results)} passed{more}"

    def as_json(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        return {
            "failed": [{"name": each.name, "said": each.said} for each in self.failed],
            "results": [asdict(each) | {"seconds": round(each.seconds, 3)} for each in self.results],
        }


def run_model_tests(use_case: UseCase, subject: Subject) -> TestReport:
    """Run what the use case declares and what is asked of every model; a test that cannot be run has failed.

    Example:
        The command line runs it: ``evergreen test taxi_tip``.
    """
    declared = (*use_case.tests, *default_tests(use_case.tests, use_case.policy.segments))
    runs: list[tuple[str, bool, Callable[[], TestResult]]] = [
        ("scores are probabilities", True, lambda: _probabilities(subject)),
        ("reload equality", True, lambda: _reload(subject)),
        *((_name(each), each.required, _bound(use_case, subject, each)) for each in declared),
    ]
    return TestReport(tuple(_timed(name, required, run) for name, required, run in runs))


def changed_rows(use_case: UseCase, subject: Subject, name: str, change: Callable[[Any], Any]) -> tuple[Matrix, Matrix]:
    """Features of the newest rows as they are, and with one field of the request or one feature changed.

    What is computed from the request is computed again; what is stored of its entities stays as it was.

    Args:
        use_case: whose.
        subject: its rows.
        name: of the field or feature.
        change: array (n,) -> array (n,).
    """
    rows, matrix = subject.requests.tail(_ROWS), subject.X[-_ROWS:]
    fields = {f.name: f for f in use_case.request_fields}
    if name not in fields:
        other, place = matrix.copy(), use_case.features.columns.index(name)
        other[:, place] = change(matrix[:, place].astype(np.float64))
        return matrix, other
    features, stored, start = feature_set(use_case), {}, 0
    for view in features.views:
        stop = start + len(view.columns)
        if isinstance(view, WindowView | BatchView):
            stored[view.name] = matrix[:, start:stop]
        start = stop
    columns: dict[str, Any] = {f.name: field_column(f, rows[f.name]) for f in fields.values()}
    columns["at"] = to_us_array(rows["at"])
    other_columns = columns | {name: np.asarray(change(columns[name]))}
    return feature_matrix(features, stored, columns), feature_matrix(features, stored, other_columns)


def _timed(name: str, required: bool, run: Callable[[], TestResult]) -> TestResult:
    began = time.perf_counter()
    try:
        found = run()
    except EvergreenError as problem:
        found = TestResult(name, False, required, str(problem))
    except Exception as problem:  # the file's own code: whatever it raises, the test has not passed
        found = TestResult(name, False, required, f"cannot be run ({type(problem).__name__}: {problem})")
    return replace(found, name=name, required=required, seconds=time.perf_counter() - began)


def _bound(use_case: UseCase, subject: Subject, each: ModelTest) -> Callable[[], TestResult]:
    match each:
        case Invariance():
            return lambda: _invariance(use_case, subject, each)
        case Direction():
            return lambda: _direction(use_case, subject, each)
        case Minimum():
            return lambda: _minimum(subject, each)
        case Slice():
            return lambda: _slice(use_case, subject, each)
        case TinyBatch():
            return lambda: _tiny_batch(use_case, subject, each)


def _name(each: ModelTest) -> str:
    match each:
        case Invariance():
            return f"{each.field} does not matter"
        case Direction():
            return f"{each.field} {each.by:+g}: {each.expect}"
        case Minimum():
            sign = "≥" if each.metric in HIGHER_IS_BETTER else "≤"
            return f"{each.metric} {sign} {each.value:g}"
        case Slice():
            return f"slices by {each.by}"
        case TinyBatch():
            return f"learns {each.rows} rows by heart"


def _result(passed: bool, said: str, **numbers: float) -> TestResult:
    return TestResult("", bool(passed), True, said, {name: float(value) for name, value in numbers.items()})


def _probabilities(subject: Subject) -> TestResult:
    scores = subject.score(subject.X)
    odd = int((~np.isfinite(scores) | (scores < 0) | (scores > 1)).sum())
    if odd:
        return _result(False, f"{odd} of {len(scores)} scores are no probabilities", odd=odd)
    if len(np.unique(scores)) < 2:
        return _result(False, f"all {len(scores)} scores are the same")
    return _result(
        True, f"{len(scores)} scores from {scores.min():.3f} to {scores.max():.3f}", low=scores.min(), high=scores.max()
    )


def _reload(subject: Subject) -> TestResult:
    before, after = subject.score(subject.X), subject.reloaded(subject.X)
    differ = int((before != after).sum())
    said = f"{differ} of {len(before)} scores differ after the graph was written and read"
    return _result(differ == 0, said if differ else f"{len(before)} scores are the same bit for bit", differ=differ)


def _invariance(use_case: UseCase, subject: Subject, each: Invariance) -> TestResult:
    largest, worst = 0.0, each.values[0]
    for value in each.values:
        rows, other = changed_rows(use_case, subject, each.field, _set_to(value))
        change = float(np.abs(subject.score(other).astype(np.float64) - subject.score(rows)).mean())
        if change > largest:
            largest, worst = change, value
    allowed = max(each.max_change, _ALIKE)
    said = f"set to {worst!r}, scores change by {largest:.4f} on average, {each.max_change:g} is allowed"
    return _result(largest <= allowed, said, change=largest, allowed=each.max_change)


def _set_to(value: Scalar) -> Callable[[Any], Any]:
    def change(old: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if old.dtype == object:
            return np.full(len(old), "" if value is None else str(value), dtype=object)
        return np.full(len(old), np.nan if value is None else value, dtype=old.dtype)

    return change


def _direction(use_case: UseCase, subject: Subject, each: Direction) -> TestResult:
    rows, other = changed_rows(
        use_case, subject, each.field, lambda old: np.asarray(old + each.by).astype(old.dtype)
    )  # fmt: skip
    moved = float((subject.score(other).astype(np.float64) - subject.score(rows)).mean())
    allowed = each.tolerance + _ALIKE
    passed = {
        "up": moved > -each.tolerance, "down": moved < each.tolerance,
        "not down": moved >= -allowed, "not up": moved <= allowed,
    }[each.expect]  # fmt: skip
    return _result(passed, f"the mean score moves by {moved:+.4f}", moved=moved, tolerance=each.tolerance)


def _minimum(subject: Subject, each: Minimum) -> TestResult:
    scores = subject.score(subject.X)
    found = _metric(each.metric, subject.y, scores)
    if found is None:
        return _result(False, f"{each.metric} is not known: one of the two labels does not occur")
    passed = found >= each.value if each.metric in HIGHER_IS_BETTER else found <= each.value
    return _result(passed, f"it is {found:.4f} on {len(scores)} rows", value=found, wanted=each.value)


def _metric(name: str, labels: metrics.Labels, scores: metrics.Scores) -> float | None:
    if name == "gain_over_base_rate":
        base = metrics.base_rate_log_loss(labels)
        return 1 - metrics.log_loss(labels, scores) / base if base > 0 else None
    found: float | None = getattr(metrics, name)(labels, scores)
    return found


def _slice(use_case: UseCase, subject: Subject, each: Slice) -> TestResult:
    features = pd.DataFrame(subject.X, columns=list(use_case.features.columns))
    values = segment_values(use_case, subject.requests, features, names=(each.by,))
    masks = dict(part for name, column in values.items() for part in Cut.of(name, column).masks(column))
    scores = subject.score(subject.X)
    whole = _relative_loss(subject.y, scores)
    parts = {
        name: _relative_loss(subject.y[mask], scores[mask]) / whole
        for name, mask in masks.items()
        if mask.sum() >= each.min_rows and len(np.unique(subject.y[mask])) == 2
    }
    over = sorted((ratio, name) for name, ratio in parts.items() if ratio > each.max_loss_ratio)[::-1]
    if over:
        named = ", ".join(f"{name} {ratio:.2f}" for ratio, name in over[:_SHOWN])
        said = f"{len(over)} of {len(parts)} parts are over {each.max_loss_ratio:g} times the whole: {named}"
        return _result(False, said, worst=over[0][0], parts=len(parts))
    if not parts:
        return _result(True, f"no part has {each.min_rows} rows and both labels", parts=0)
    worst = max(parts, key=lambda name: parts[name])
    said = f"of {len(parts)} parts {worst} is worst, {parts[worst]:.2f} times the whole"
    return _result(True, said, worst=parts[worst], parts=len(parts))


def _relative_loss(labels: metrics.Labels, scores: npt.NDArray[np.float32]) -> float:
    return metrics.log_loss(labels, scores) / max(metrics.base_rate_log_loss(labels), losses.CLIP)


def _tiny_batch(use_case: UseCase, subject: Subject, each: TinyBatch) -> TestResult:
    places = np.array(sorted(_both_labels(subject.y, each.rows)))
    rows, labels = subject.X[places], subject.y[places]
    if len(np.unique(labels)) < 2:
        return _result(False, "one of the two labels does not occur")
    estimator = use_case.estimator(use_case.features.columns)
    with threadpool_limits(1):  # so few rows are slower on many threads, which wait for one another
        estimator.fit(np.tile(rows, (each.repeats, 1)), np.tile(labels, each.repeats))
    loss = metrics.log_loss(labels, np.asarray(estimator.predict_proba(rows))[:, 1])
    base = metrics.base_rate_log_loss(labels)
    said = f"log-loss {loss:.4f} on them, that of their base rate is {base:.4f}"
    return _result(loss <= each.max_loss_ratio * base, said, log_loss=loss, base_rate_log_loss=base)


def _both_labels(labels: metrics.Labels, rows: int) -> Iterator[int]:
    """Positions of the newest rows, as many of either label as there are, up to half of `rows` each."""
    for label in (0, 1):
        yield from np.flatnonzero(labels == label)[-(rows // 2) :].tolist()
