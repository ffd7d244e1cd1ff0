"""Training a candidate: fit, export, prove parity, measure on rows it has not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.discovery import UseCaseFile
from core.errors import EvergreenError, NotEnoughData, TrainingError
from core.use_case import Classifier, UseCase
from features.offline.training import TrainingSet
from registry import metrics
from registry.export import check_parity, to_onnx
from registry.scorer import OnnxScorer

_LONGEST_PARAM = 500


@dataclass(frozen=True)
class Holdout:
    """The newest labelled rows, kept out of training, sorted by time.

    Args:
        X: features, float32 (n, d).
        y: labels, int64 (n,).
        at: when each was asked, datetime64[us] UTC (n,).
        requests: the questions: at, entities, request fields, and what was known, as in a training set.
        scores: the candidate's, float32 (n,), by its ONNX graph.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    at: npt.NDArray[np.datetime64]
    requests: pd.DataFrame
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A trained model that is proven to serve as it was trained, and not registered yet.

    Args:
        use_case_file: what it was trained from.
        columns: its feature columns, in order.
        onnx: the serialised graph.
        holdout: rows it has not seen.
        profile: how it does on them, as JSON.
        params: how it was trained: estimator, its parameters, policy.
        fingerprint: of the training set, holdout included.
        timings: seconds spent: ``fit_s``, ``export_s``.
    """

    use_case_file: UseCaseFile
    columns: tuple[str, ...]
    onnx: bytes
    holdout: Holdout
    profile: Mapping[str, Any]
    params: Mapping[str, str]
    fingerprint: str
    timings: Mapping[str, float]


def build_candidate(use_case_file: UseCaseFile, training: TrainingSet) -> Candidate:
    """Train on all but the newest rows, and measure on those.

    The model stays as fitted without the newest rows, so what was measured is what gets served.

    Args:
        use_case_file: the use case.
        training: its labelled rows, sorted by time.

    Raises:
        NotEnoughData: with fewer rows than the policy's ``min_rows``, or without both labels to train on.
        ConversionError: if the estimator has no ONNX form.
        ParityError: if its ONNX form answers otherwise.
        TrainingError: if the estimator fails.
    """
    use_case = use_case_file.use_case
    split = _split(use_case, training)
    started = time.perf_counter()
    estimator = _fit(use_case, training.X[:split], training.y[:split])
    fitted = time.perf_counter()
    onnx = to_onnx(estimator, training.columns, use_case.name)
    exported = time.perf_counter()
    parity = check_parity(estimator, onnx, training.X[split:], use_case=use_case.name)
    scores = OnnxScorer(onnx).score(training.X[split:])
    holdout = Holdout(
        training.X[split:], training.y[split:], training.at[split:], training.requests.iloc[split:], scores
    )
    return Candidate(
        use_case_file=use_case_file,
        columns=training.columns,
        onnx=onnx,
        holdout=holdout,
        profile=_profile(holdout, training, split, parity),
        params=_params(use_case, estimator),
        fingerprint=training.fingerprint,
        timings={"fit_s": fitted - started, "export_s": exported - fitted},
    )


def _split(use_case: UseCase, training: TrainingSet) -> int:
    """Position of the first holdout row."""
    rows, policy = len(training.y), use_case.policy
    needed = max(policy.min_rows, policy.holdout_rows + 2)
    if rows < needed:
        raise NotEnoughData(use_case.name, rows, needed, "labelled rows")
    split = rows - policy.holdout_rows
    rarer = int(np.bincount(training.y[:split], minlength=2).min())
    if rarer == 0:
        raise NotEnoughData(use_case.name, rarer, 1, f"rows of one of the two labels among {split} to train on")
    return split


def _fit(use_case: UseCase, matrix: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Classifier:
    try:
        estimator = use_case.estimator(use_case.features.columns)
        estimator.fit(matrix, labels)
    except EvergreenError:
        raise
    except Exception as error:  # the estimator is the user's: whatever it raises ends this retrain
        empty = [c for i, c in enumerate(use_case.features.columns) if np.isnan(matrix[:, i]).all()]
        hint = f"; without any value: {', '.join(empty)}" if empty else ""
        raise TrainingError(
            f"{use_case.name}: the estimator failed on {matrix.shape[0]} rows of {matrix.shape[1]} features{hint} "
            f"({type(error).__name__}: {error}). Correct the use case's estimator, or fill such columns."
        ) from error
    return estimator


def _profile(holdout: Holdout, training: TrainingSet, split: int, parity: float) -> dict[str, Any]:
    labels, scores = holdout.y, holdout.scores
    return {
        "rows": len(labels),
        "from": _iso(holdout.at[0]),
        "to": _iso(holdout.at[-1]),
        "log_loss": metrics.log_loss(labels, scores),
        "base_rate_log_loss": metrics.base_rate_log_loss(labels),
        "auc": metrics.auc(labels, scores),
        "brier": metrics.brier(labels, scores),
        "calibration_error": metrics.calibration_error(labels, scores),
        "base_rate": float(labels.mean()),
        "mean_score": float(scores.mean(dtype=np.float64)),
        "parity_difference": parity,
        "training": {
            "rows": split,
            "from": _iso(training.at[0]),
            "to": _iso(training.at[split - 1]),
            "base_rate": float(training.y[:split].mean()),
            "fingerprint": training.fingerprint,
            "dropped": dict(training.dropped),
        },
    }


def _iso(moment: np.datetime64) -> str:
    return f"{np.datetime_as_string(moment, unit='us')}+00:00"


def _params(use_case: UseCase, estimator: Any) -> dict[str, str]:
    """What is worth comparing between runs, as text."""
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    found = {"estimator": type(estimator).__name__, "features": str(len(use_case.features.columns))}
    if final is not estimator:
        found["steps"] = " > ".join(type(step).__name__ for _, step in estimator.steps)
    if hasattr(final, "get_params"):
        for name, value in final.get_params(deep=False).items():
            if value is None or isinstance(value, bool | int | float | str | tuple):
                found[f"estimator.{name}"] = str(value)
    policy = use_case.policy
    found["policy.training_window_days"] = f"{policy.training_window.total_seconds() / 86_400:g}"
    found["policy.holdout_rows"] = str(policy.holdout_rows)
    found["policy.min_gain"] = str(policy.min_gain)
    return {name: value[:_LONGEST_PARAM] for name, value in found.items()}
