"""From a trained classifier to an ONNX graph, and the proof that both answer alike."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ConversionError, ParityError
from core.torch_classifier import TorchClassifier
from core.use_case import Classifier
from registry.scorer import OnnxScorer
from registry.tree_thresholds import hist_gradient_boostings, with_float32_thresholds

PARITY_TOLERANCE = 1e-5
_SINGLE_ROWS = 32
_LONGEST_CAUSE = 200


def to_onnx(estimator: Classifier, columns: Sequence[str], use_case: str) -> bytes:
    """Convert a trained classifier into the graph that serves it.

    Args:
        estimator: fitted on labels 0 and 1: a scikit-learn classifier or pipeline, or a TorchClassifier.
        columns: the feature columns, in the order of the matrix.
        use_case: names the graph.

    Returns:
        A serialised graph with the input ``X``, float32 (n, d), and the output ``scores``, float32 (n,),
        the probability of label 1. The same estimator gives the same bytes.

    Raises:
        ConversionError: if it is neither, or the converter does not support it.
    """
    name = _describe(estimator)
    try:
        with _quiet():
            if isinstance(estimator, TorchClassifier):
                graph = _from_torch(estimator, len(columns))
            else:
                _require_convertible(estimator, use_case)
                graph = _from_sklearn(estimator, len(columns), use_case)
    except ConversionError:
        raise
    except Exception as error:  # converters raise whatever comes: any of it means "cannot be converted"
        cause = (str(error).strip().splitlines() or [""])[0]
        raise ConversionError(use_case, name, f"{type(error).__name__}: {cause[:_LONGEST_CAUSE]}") from error
    return _sealed(graph, columns, use_case)


def check_parity(
    estimator: Classifier,
    onnx_bytes: bytes,
    matrix: npt.NDArray[np.float32],
    *,
    use_case: str,
    tolerance: float = PARITY_TOLERANCE,
) -> float:
    """Compare native and ONNX scores on real rows, all at once and some of them one by one.

    Args:
        estimator: the fitted classifier.
        onnx_bytes: its graph.
        matrix: float32 (n, d), at least one row.
        use_case: named in the error.
        tolerance: largest absolute difference allowed.

    Returns:
        The largest absolute difference found.

    Raises:
        ParityError: if it is above the tolerance, or a score is not a number.
    """
    scorer = OnnxScorer(onnx_bytes)
    with _quiet():
        native = np.asarray(estimator.predict_proba(matrix))[:, 1].astype(np.float64)
    served = scorer.score(matrix).astype(np.float64)
    sample = np.unique(np.linspace(0, len(matrix) - 1, _SINGLE_ROWS).astype(np.int64))
    alone = np.concatenate([scorer.score(matrix[row : row + 1]) for row in sample])
    together = float(np.max(np.abs(native - served)))
    difference = max(together, float(np.max(np.abs(native[sample] - alone))))
    if np.isnan(together) or np.isnan(alone).any() or difference > tolerance:
        raise ParityError(use_case, difference, tolerance, len(matrix))
    return difference


def _require_convertible(estimator: Any, use_case: str) -> None:
    from sklearn.base import BaseEstimator

    name = _describe(estimator)
    if not isinstance(estimator, BaseEstimator):
        raise ConversionError(use_case, name, "it is neither scikit-learn's nor a TorchClassifier")
    if not hasattr(estimator, "predict_proba"):
        raise ConversionError(use_case, name, "it has no predict_proba")
    if list(getattr(estimator, "classes_", [])) != [0, 1]:
        raise ConversionError(use_case, name, "it was not fitted on the labels 0 and 1")
    if any(getattr(part, "is_categorical_", None) is not None for part in hist_gradient_boostings(estimator)):
        raise ConversionError(
            use_case, name, "skl2onnx ignores categorical_features: give it numbers or one-hot columns"
        )


def _from_sklearn(estimator: Any, columns: int, use_case: str) -> Any:
    from onnx import TensorProto, helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    exact = with_float32_thresholds(estimator)
    model = convert_sklearn(
        exact,
        name=use_case,
        initial_types=[("X", FloatTensorType([None, columns]))],
        options={id(exact): {"zipmap": False}},
    )
    probabilities = model.graph.output[1].name
    model.graph.initializer.extend(
        [
            helper.make_tensor("evergreen_class", TensorProto.INT64, [], [1]),
            helper.make_tensor("evergreen_zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("evergreen_one", TensorProto.FLOAT, [], [1.0]),
        ]
    )
    # float32 sums of a forest's votes may end a little above 1
    model.graph.node.extend(
        [
            helper.make_node("Gather", [probabilities, "evergreen_class"], ["evergreen_yes"], axis=1),
            helper.make_node("Cast", ["evergreen_yes"], ["evergreen_float"], to=TensorProto.FLOAT),
            helper.make_node("Clip", ["evergreen_float", "evergreen_zero", "evergreen_one"], ["scores"]),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]))
    return model


def _from_torch(estimator: TorchClassifier, columns: int) -> Any:
    import torch

    class Scores(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
        def __init__(self, logits: Any) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, X: Any) -> Any:
            return torch.sigmoid(self.logits(X))

    program = torch.onnx.export(
        Scores(estimator.module).eval(),
        (torch.zeros(2, columns),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["X"],
        output_names=["scores"],
        verbose=False,
    )
    return program.model_proto


def _sealed(model: Any, columns: Sequence[str], use_case: str) -> bytes:
    """Check the graph and take out what says where it was made: paths, stack traces, notes."""
    import onnx

    model.graph.name = use_case
    model.doc_string = model.graph.doc_string = ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"evergreen.columns": json.dumps(list(columns)), "evergreen.use_case": use_case})
    onnx.checker.check_model(model)
    sealed: bytes = model.SerializeToString(deterministic=True)
    return sealed


def _describe(estimator: object) -> str:
    steps = getattr(estimator, "steps", None)
    inner = f"({', '.join(type(step).__name__ for _, step in steps)})" if steps else ""
    return type(estimator).__name__ + inner


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' notices (deprecations of their own, missing torchvision) off the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
