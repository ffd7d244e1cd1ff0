"""Model tests tell models that do as expected from models that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from core.discovery import UseCaseFile
from core.errors import UseCaseError
from core.model_tests import Direction, Invariance, Minimum, ModelTest, Slice, TinyBatch, default_tests
from core.use_case import UseCase
from features.offline.training import TrainingSet
from registry.model_tests import Subject, TestResult, changed_rows, run_model_tests


@pytest.fixture
def use_case(use_case_file: UseCaseFile) -> UseCase:
    return use_case_file.use_case


@pytest.fixture
def rows(make_rows: Callable[..., TrainingSet]) -> TrainingSet:
    """Rows in which the first feature decides, and the field `size` is what it is made of."""
    found = make_rows(400)
    return replace(found, requests=found.requests.assign(size=found.X[:, 0].astype(np.float64)))


def by_size(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A model that looks at the first feature alone."""
    return (1 / (1 + np.exp(-3 * matrix[:, 0]))).astype(np.float32)


def subject(rows: TrainingSet, score: Any = by_size, reloaded: Any = None) -> Subject:
    return Subject(score, reloaded or score, rows.X, rows.y, rows.requests)


def result(use_case: UseCase, tested: Subject, *tests: ModelTest) -> TestResult:
    """How the last of some declared tests came out."""
    report = run_model_tests(replace(use_case, tests=tests), tested)
    return report.results[1 + len(tests)]


@pytest.mark.parametrize(
    ("test", "passes"),
    [
        (Invariance(field="count", values=(0, 8)), True),
        (Invariance(field="note", values=("x", None)), True),
        (Invariance(field="noise", values=(0.0, None)), True),
        (Invariance(field="size", values=(-1.0, 1.0)), False),
        (Invariance(field="size", values=(-1.0, 1.0), max_change=0.9), True),
        (Direction(field="size", by=0.5, expect="up"), True),
        (Direction(field="size", by=-0.5, expect="down"), True),
        (Direction(field="size", by=0.5, expect="not up"), False),
        (Direction(field="count", by=1, expect="up"), False),
        (Direction(field="count", by=1, expect="not up"), True),
        (Direction(field="count", by=1, expect="not down"), True),
        (Minimum(metric="auc", value=0.7), True),
        (Minimum(metric="auc", value=0.999), False),
        (Minimum(metric="log_loss", value=0.6), True),
        (Minimum(metric="log_loss", value=0.01), False),
        (Minimum(metric="gain_over_base_rate", value=0.1), True),
        (Slice(by="count", max_loss_ratio=3.0, min_rows=20), True),
        (Slice(by="count", max_loss_ratio=0.1, min_rows=20), False),
        (TinyBatch(rows=20, repeats=4), True),
        (TinyBatch(rows=20, repeats=4, max_loss_ratio=1e-9), False),
    ],
    ids=str,
)
def test_what_is_expected_is_told_from_what_is_not(
    use_case: UseCase, rows: TrainingSet, test: ModelTest, passes: bool
) -> None:
    found = result(use_case, subject(rows), test)
    assert found.passed is passes, found.said


def test_a_field_is_changed_with_all_that_is_computed_from_it(use_case: UseCase, rows: TrainingSet) -> None:
    before, after = changed_rows(use_case, subject(rows), "size", lambda old: old + 1)
    assert np.allclose(after[:, 0], before[:, 0] + 1) and np.array_equal(after[:, 1], before[:, 1])
    assert np.allclose(before[:, 0], rows.X[:, 0])


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda m: np.full(len(m), 0.5, dtype=np.float32), "are the same"),
        (lambda m: np.full(len(m), np.nan, dtype=np.float32), "are no probabilities"),
        (lambda m: (m[:, 0] * 3).astype(np.float32), "are no probabilities"),
    ],
)
def test_scores_must_be_probabilities_that_differ(use_case: UseCase, rows: TrainingSet, score: Any, said: str) -> None:
    report = run_model_tests(use_case, subject(rows, score))
    assert report.failed[0].name == "scores are probabilities" and said in report.failed[0].said


def test_a_graph_that_answers_otherwise_when_read_again_fails(use_case: UseCase, rows: TrainingSet) -> None:
    off = subject(rows, reloaded=lambda matrix: np.nextafter(by_size(matrix), np.float32(1)))
    report = run_model_tests(use_case, off)
    assert [each.name for each in report.failed] == ["reload equality"]
    assert "reload equality: 400 of 400 scores differ" in report.said


def test_an_estimator_that_learns_nothing_fails(use_case: UseCase, rows: TrainingSet) -> None:
    class Constant:
        def fit(self, X: Any, y: Any) -> None:
            pass

        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 2), 0.5)

    report = run_model_tests(replace(use_case, estimator=lambda _: Constant()), subject(rows))
    assert [each.name for each in report.failed] == ["learns 64 rows by heart"]


def test_a_test_that_cannot_be_run_has_failed(use_case: UseCase, rows: TrainingSet) -> None:
    found = result(use_case, subject(rows), Direction(field="note", by=1, expect="up"))
    assert not found.passed and "cannot be run" in found.said


def test_what_is_not_required_rejects_nothing(use_case: UseCase, rows: TrainingSet) -> None:
    tests = (Minimum(metric="auc", value=0.999, required=False),)
    report = run_model_tests(replace(use_case, tests=tests), subject(rows))
    assert not report.failed and "to be looked at: auc ≥ 0.999" in report.said
    assert report.as_json()["failed"] == [] and len(report.as_json()["results"]) == len(report.results)


def test_defaults_give_way_to_what_is_declared() -> None:
    defaults = default_tests((), ("shop",))
    assert [type(each) for each in defaults] == [Minimum, TinyBatch, Slice]
    declared = (Minimum(metric="auc", value=0.6), TinyBatch(rows=8), Slice(by="shop", max_loss_ratio=1.2))
    assert default_tests(declared, ("shop",)) == ()


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (Invariance(field="nothing", values=(1,)), "nothing"),
        (Invariance(field="size", values=()), "without values"),
        (Direction(field="size", by=0, expect="up"), "by 0"),
        (Slice(by="nothing", max_loss_ratio=1.1), "nothing"),
        (Slice(by="size", max_loss_ratio=0), "max_loss_ratio 0"),
        (TinyBatch(rows=1), "TinyBatch of 1 rows"),
        (Minimum(metric="f1", value=1), "f1"),  # type: ignore[arg-type]
    ],
)
def test_a_test_that_makes_no_sense_is_refused_when_the_file_is_loaded(
    use_case: UseCase, test: ModelTest, said: str
) -> None:
    with pytest.raises(UseCaseError, match=said):
        replace(use_case, tests=(test,)).validate()


def test_the_rows_are_not_changed(use_case: UseCase, rows: TrainingSet) -> None:
    before, requests = rows.X.copy(), rows.requests.copy()
    tests = (Direction(field="noise", by=1, expect="not up"), Invariance(field="size", values=(1.0,), max_change=1))
    run_model_tests(replace(use_case, tests=tests), subject(rows))
    assert np.array_equal(rows.X, before) and pd.testing.assert_frame_equal(rows.requests, requests) is None
