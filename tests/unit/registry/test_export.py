from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from core.errors import ConversionError, ParityError
from core.torch_classifier import TorchClassifier, TorchTraining
from registry.export import check_parity, to_onnx
from registry.scorer import OnnxScorer

COLUMNS = ("a", "b", "c", "d")
Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def rows(n: int = 1500) -> tuple[Matrix, Labels]:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n, 4)).astype(np.float32)
    matrix[:, 0] = rng.integers(0, 30, n)
    labels = ((matrix[:, 0] % 3 == 0) ^ (matrix[:, 1] + matrix[:, 2] > 0)).astype(np.int64)
    return matrix, labels


def network(columns: int) -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(30, 4)
            self.out = torch.nn.Linear(3 + columns, 1)

        def forward(self, x: Any) -> Any:
            return self.out(torch.cat([self.table(x[:, 0].long()), x[:, 1:]], dim=1)).squeeze(1)

    return Net()


def torch_estimator() -> TorchClassifier:
    return TorchClassifier(network, codes=(0,), training=TorchTraining(epochs=2))


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: LogisticRegression(),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=10, random_state=0),
    "older boosting": lambda: GradientBoostingClassifier(n_estimators=20, random_state=0),
    "forest": lambda: RandomForestClassifier(n_estimators=10, random_state=0),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "network": lambda: MLPClassifier(hidden_layer_sizes=(8,), max_iter=500, tol=0.01, random_state=0),
    "pipeline": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "calibrated": lambda: CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=5, random_state=0), cv=2),
    "stack": lambda: StackingClassifier(
        [("l", LogisticRegression()), ("t", DecisionTreeClassifier(max_depth=3))], cv=2
    ),
    "torch": torch_estimator,
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_native_and_onnx_agree_and_the_bytes_repeat(name: str) -> None:
    matrix, labels = rows()
    estimator = ESTIMATORS[name]()
    estimator.fit(matrix, labels)
    graph = to_onnx(estimator, COLUMNS, "sample")
    assert check_parity(estimator, graph, matrix, use_case="sample") <= 1e-5
    assert to_onnx(estimator, COLUMNS, "sample") == graph
    scores = OnnxScorer(graph).score(matrix)
    assert scores.dtype == np.float32 and scores.shape == (len(matrix),)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("name", ["boosting", "torch"])
def test_the_graph_has_one_input_one_output_and_no_trace_of_where_it_was_made(name: str) -> None:
    matrix, labels = rows()
    estimator = ESTIMATORS[name]()
    estimator.fit(matrix, labels)
    graph = to_onnx(estimator, COLUMNS, "sample")
    model = onnx.load_from_string(graph)
    assert [i.name for i in model.graph.input] == ["X"]
    assert [o.name for o in model.graph.output] == ["scores"]
    assert len(model.graph.output[0].type.tensor_type.shape.dim) == 1
    properties = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(properties["evergreen.columns"]) == list(COLUMNS)
    assert b"/home/" not in graph and b".py" not in graph and b"site-packages" not in graph


def test_boosting_splits_between_adjacent_float32_numbers_alike() -> None:
    rng = np.random.default_rng(0)
    for start in (0.0, 1e-3, 1.6e7):
        ladder = np.array([start], dtype=np.float32)
        for _ in range(20):
            ladder = np.append(ladder, np.nextafter(ladder[-1], np.float32(np.inf)))
        matrix = np.stack([rng.choice(ladder, 1000), rng.choice(-ladder, 1000)], axis=1)
        answers = rng.integers(0, 2, (21, 21))
        labels = answers[np.searchsorted(ladder, matrix[:, 0]), np.searchsorted(ladder, -matrix[:, 1])]
        estimator = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=1).fit(matrix, labels)
        before = estimator.predict_proba(matrix)
        check_parity(estimator, to_onnx(estimator, "ab", "sample"), matrix, use_case="sample")
        assert np.array_equal(estimator.predict_proba(matrix), before), "the estimator itself was changed"


def test_missing_values_go_the_same_way() -> None:
    matrix, labels = rows()
    matrix[::3, 1] = np.nan
    for estimator in (HistGradientBoostingClassifier(max_iter=5, random_state=0), torch_estimator()):
        estimator.fit(matrix, labels)
        check_parity(estimator, to_onnx(estimator, COLUMNS, "sample"), matrix, use_case="sample")


def test_no_rows_give_no_scores() -> None:
    matrix, labels = rows()
    scorer = OnnxScorer(to_onnx(LogisticRegression().fit(matrix, labels), COLUMNS, "sample"))
    assert scorer.columns == 4
    assert scorer.score(matrix[:0]).shape == (0,)


class Homemade:
    def fit(self, matrix: Matrix, labels: Labels) -> None: ...

    def predict_proba(self, matrix: Matrix) -> npt.NDArray[Any]:
        return np.full((len(matrix), 2), 0.5)


@pytest.mark.parametrize(
    ("estimator", "cause"),
    [
        (Homemade(), "neither scikit-learn's nor a TorchClassifier"),
        (RidgeClassifier(), "has no predict_proba"),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), "categorical_features"),
        (
            make_pipeline(FunctionTransformer(), HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])),
            "categorical",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(estimator: Any, cause: str) -> None:
    matrix, labels = rows(200)
    estimator.fit(matrix, labels)
    with pytest.raises(ConversionError, match=f"sample: the estimator {type(estimator).__name__}.*{cause}"):
        to_onnx(estimator, COLUMNS, "sample")


@pytest.mark.slow
def test_a_network_torch_cannot_export_is_refused() -> None:
    def build(columns: int) -> Any:
        import torch

        class Python(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(columns))

            def forward(self, x: Any) -> Any:
                return x @ self.weight * (1.0 if float(x.sum()) > 0 else 2.0)

        return Python()

    matrix, labels = rows(100)
    estimator = TorchClassifier(build, training=TorchTraining(epochs=1)).fit(matrix, labels)
    with pytest.raises(ConversionError, match="sample: the estimator TorchClassifier cannot be converted"):
        to_onnx(estimator, COLUMNS, "sample")


def test_other_labels_than_0_and_1_are_refused() -> None:
    matrix, labels = rows(200)
    with pytest.raises(ConversionError, match="labels 0 and 1"):
        to_onnx(LogisticRegression().fit(matrix, labels + 1), COLUMNS, "sample")


def test_a_graph_that_answers_otherwise_is_refused() -> None:
    matrix, labels = rows()
    estimator, other = LogisticRegression().fit(matrix, labels), LogisticRegression().fit(matrix, 1 - labels)
    with pytest.raises(ParityError, match=r"sample: native and ONNX scores differ by .* on 1500 rows"):
        check_parity(estimator, to_onnx(other, COLUMNS, "sample"), matrix, use_case="sample")


def test_a_score_that_is_no_number_is_refused() -> None:
    matrix, labels = rows()
    estimator = LogisticRegression().fit(matrix, labels)
    graph = to_onnx(estimator, COLUMNS, "sample")
    estimator.coef_[:] = np.nan
    with pytest.raises(ParityError):
        check_parity(_Nan(), graph, matrix, use_case="sample")


class _Nan(Homemade):
    def predict_proba(self, matrix: Matrix) -> npt.NDArray[Any]:
        return np.full((len(matrix), 2), np.nan)
