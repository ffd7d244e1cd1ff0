from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.discovery import UseCaseFile
from core.errors import ConversionError, NotEnoughData, TrainingError
from features.offline.training import TrainingSet
from registry.candidate import build_candidate
from registry.scorer import OnnxScorer

MakeRows = Callable[..., TrainingSet]
MakeUseCase = Callable[..., UseCaseFile]


def test_the_newest_rows_are_held_out_and_measured_on(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = make_rows(600)
    candidate = build_candidate(use_case_file, rows)
    assert np.array_equal(candidate.holdout.X, rows.X[500:])
    assert candidate.profile["rows"] == 100 and candidate.profile["training"]["rows"] == 500
    assert candidate.profile["training"]["to"] < candidate.profile["from"]
    assert candidate.profile["log_loss"] < candidate.profile["base_rate_log_loss"]
    assert candidate.profile["auc"] > 0.8
    assert candidate.profile["parity_difference"] <= 1e-5
    assert candidate.fingerprint == rows.fingerprint
    assert candidate.params["estimator"] == "LogisticRegression"
    json.dumps(candidate.profile, allow_nan=False)


def test_the_holdout_has_no_part_in_the_fit(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = make_rows(600)
    other = rows.y.copy()
    other[500:] = 1 - other[500:]
    matrix = rows.X.copy()
    matrix[500:] = 7
    spoilt = build_candidate(use_case_file, replace(rows, X=matrix, y=other))
    assert spoilt.onnx == build_candidate(use_case_file, rows).onnx


def test_the_input_is_not_changed(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows, same = make_rows(300), make_rows(300)
    build_candidate(use_case_file, rows)
    assert np.array_equal(rows.X, same.X) and np.array_equal(rows.y, same.y)
    assert rows.requests.equals(same.requests)


def test_scores_are_those_of_the_graph(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    candidate = build_candidate(use_case_file, make_rows(300))
    assert np.array_equal(OnnxScorer(candidate.onnx).score(candidate.holdout.X), candidate.holdout.scores)


def test_a_pipeline_tells_its_steps(make_use_case: MakeUseCase, make_rows: MakeRows) -> None:
    pipeline = "Pipeline([('scale', MaxAbsScaler()), ('fit', LogisticRegression(C=2.5))])"
    imports = "from sklearn.pipeline import Pipeline; from sklearn.preprocessing import MaxAbsScaler"
    params = build_candidate(make_use_case(pipeline, imports), make_rows(300)).params
    assert params["steps"] == "MaxAbsScaler > LogisticRegression"
    assert params["estimator.C"] == "2.5"


@pytest.mark.parametrize("n", [0, 1, 199])
def test_too_few_rows_are_refused(use_case_file: UseCaseFile, make_rows: MakeRows, n: int) -> None:
    with pytest.raises(NotEnoughData, match=f"tiny: {n} labelled rows, at least 200 are needed"):
        build_candidate(use_case_file, make_rows(n))


def test_one_label_alone_is_refused(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = make_rows(300)
    labels = np.ones_like(rows.y)
    labels[-1] = 0  # the other occurs among the rows held out only
    with pytest.raises(NotEnoughData, match="rows of one of the two labels"):
        build_candidate(use_case_file, replace(rows, y=labels))


@pytest.mark.parametrize(
    ("estimator", "error", "cause"),
    [
        ("LogisticRegression(C=-1)", TrainingError, "tiny: the estimator failed on 200 rows of 3 features"),
        ("1 / 0", TrainingError, "ZeroDivisionError"),
        ("LinearSVC()", ConversionError, "no predict_proba"),
    ],
)
def test_a_faulty_estimator_is_named(
    make_use_case: MakeUseCase, make_rows: MakeRows, estimator: str, error: type[Exception], cause: str
) -> None:
    use_case = make_use_case(estimator, "from sklearn.svm import LinearSVC")
    with pytest.raises(error, match=cause):
        build_candidate(use_case, make_rows(300))


def test_a_column_without_any_value_is_named_when_the_estimator_cannot_take_it(
    make_use_case: MakeUseCase, make_rows: MakeRows
) -> None:
    rows = make_rows(300)
    rows.X[:, 2] = np.nan
    with pytest.raises(TrainingError, match="without any value: noise"):
        build_candidate(make_use_case(), rows)
