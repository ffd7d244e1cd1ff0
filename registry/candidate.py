"""Training a candidate: fit, export, prove parity, measure on rows it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.clock import as_utc
from core.discovery import UseCaseFile
from core.errors import EvergreenError, NotEnoughData, TrainingError
from core.policy import Selection
from core.use_case import Classifier, UseCase
from features.offline.training import TrainingSet
from registry import metrics
from registry.export import check_parity, to_onnx
from registry.fitting import fit, go_on
from registry.scorer import OnnxScorer
from registry.selection import SelectedRows, describe, select_rows

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
        estimator: as fitted.
    """

    use_case_file: UseCaseFile
    columns: tuple[str, ...]
    onnx: bytes
    holdout: Holdout
    profile: Mapping[str, Any]
    params: Mapping[str, str]
    fingerprint: str
    timings: Mapping[str, float]
    estimator: Classifier | None = None


def build_candidate(
    use_case_file: UseCaseFile,
    training: TrainingSet,
    *,
    selection: Selection | None = None,
    moment: datetime | None = None,
    previous: Any = None,
    prove: bool = True,
) -> Candidate:
    """Train on all but the newest rows, and measure on those.

    The model stays as fitted without the newest rows, so what was measured is what gets served.

    Args:
        use_case_file: the use case.
        training: its labelled rows, sorted by time.
        selection: which of them to train on; all by default.
        moment: from which the ages of rows count; by default, when the newest was asked.
        previous: the champion's estimator as fitted, for a selection with ``warm_start``; None: it is not at hand.
        prove: whether the ONNX form is compared with the estimator now; else see `proven`.

    Raises:
        NotEnoughData: with fewer rows than the policy's ``min_rows``, or without both labels to train on.
        ConversionError: if the estimator has no ONNX form.
        ParityError: if its ONNX form answers otherwise.
        TrainingError: if the estimator fails, or cannot do what the selection asks for.
    """
    use_case, chosen = use_case_file.use_case, selection or Selection(kind="all")
    require_rows(use_case, len(training.y))
    split = len(training.y) - use_case.policy.holdout_rows
    started = time.perf_counter()
    rows = _select(use_case, training, split, chosen, moment)
    require_rows(use_case, len(training.y) - rows.first)
    _require_both_labels(use_case, training.y[rows.first : split])
    estimator, went_on = _fit(use_case, training, rows, split, lambda fresh, *given: (
        go_on(fresh, previous, *given) if chosen.warm_start else (fit(fresh, *given), False)
    ))  # fmt: skip
    fitted = time.perf_counter()
    onnx = to_onnx(estimator, training.columns, use_case.name)
    exported = time.perf_counter()
    scores = OnnxScorer(onnx).score(training.X[split:])
    holdout = Holdout(
        training.X[split:], training.y[split:], training.at[split:], training.requests.iloc[split:], scores
    )
    selected = _selected(chosen, rows, went_on)
    candidate = Candidate(
        use_case_file=use_case_file,
        columns=training.columns,
        onnx=onnx,
        holdout=holdout,
        profile=_profile(holdout, training, slice(rows.first, split)) | {"selection": selected},
        params=_params(use_case, estimator) | {name: str(value) for name, value in _flat(selected).items()},
        fingerprint=training.fingerprint,
        timings={"fit_s": fitted - started, "export_s": exported - fitted},
        estimator=estimator,
    )
    return proven(candidate) if prove else candidate


def proven(candidate: Candidate) -> Candidate:
    """The same candidate with the proof that its ONNX graph answers as its estimator does.

    Raises:
        ParityError: if it answers otherwise.
        TrainingError: if the estimator is not at hand.
    """
    name = candidate.use_case_file.use_case.name
    if candidate.estimator is None:
        raise TrainingError(f"{name}: the estimator is not at hand, so parity cannot be proven. Train it again.")
    parity = check_parity(candidate.estimator, candidate.onnx, candidate.holdout.X, use_case=name)
    return replace(candidate, profile={**candidate.profile, "parity_difference": parity})


def _needed(use_case: UseCase) -> int:
    return max(use_case.policy.min_rows, use_case.policy.holdout_rows + 2)


def require_rows(use_case: UseCase, rows: int) -> None:
    """Return if there are labelled rows enough to train and to judge on.

    Raises:
        NotEnoughData: if not.
    """
    if rows < _needed(use_case):
        raise NotEnoughData(use_case.name, rows, _needed(use_case), "labelled rows")


def _require_both_labels(use_case: UseCase, labels: npt.NDArray[np.int64]) -> None:
    rarer = int(np.bincount(labels, minlength=2).min())
    if rarer == 0:
        raise NotEnoughData(use_case.name, rarer, 1, f"rows of one of the two labels among {len(labels)} to train on")


def _select(
    use_case: UseCase, training: TrainingSet, split: int, selection: Selection, moment: datetime | None
) -> SelectedRows:
    """The rows to train on, before the holdout."""
    now = moment or as_utc(pd.Timestamp(training.at[-1]).tz_localize("UTC").to_pydatetime())
    validation = split - min(use_case.policy.holdout_rows, split // 4)

    def validation_loss(first: int) -> float | None:
        rows, labels = SelectedRows(first), training.y[first:validation]
        if len(np.unique(labels)) < 2 or len(training.y) - first < _needed(use_case):
            return None
        estimator, _ = _fit(use_case, training, rows, validation, lambda fresh, *given: (fit(fresh, *given), False))
        scores = np.asarray(estimator.predict_proba(training.X[validation:split]))[:, 1]
        return metrics.log_loss(training.y[validation:split], scores)

    return select_rows(selection, training.at[:split], now, validation_loss)


def _fit(
    use_case: UseCase,
    training: TrainingSet,
    rows: SelectedRows,
    end: int,
    fitting: Callable[..., tuple[Classifier, bool]],
) -> tuple[Classifier, bool]:
    """Fit a fresh estimator on the selected rows before `end`; whether it went on from an earlier one."""
    matrix, labels = training.X[rows.first : end], training.y[rows.first : end]
    try:
        return fitting(use_case.estimator(use_case.features.columns), matrix, labels, rows.weights)
    except EvergreenError:
        raise
    except Exception as error:  # the estimator is the user's: whatever it raises ends this retrain
        empty = [c for i, c in enumerate(use_case.features.columns) if np.isnan(matrix[:, i]).all()]
        hint = f"; without any value: {', '.join(empty)}" if empty else ""
        raise TrainingError(
            f"{use_case.name}: the estimator failed on {matrix.shape[0]} rows of {matrix.shape[1]} features{hint} "
            f"({type(error).__name__}: {error}). Correct the use case's estimator, or fill such columns."
        ) from error


def _selected(selection: Selection, rows: SelectedRows, went_on: bool) -> dict[str, Any]:
    """Which selection a version was trained on, for its record."""
    found: dict[str, Any] = {"name": describe(selection), "kind": selection.kind, "warm_start": selection.warm_start}
    if selection.warm_start:
        found["went_on"] = went_on
    if rows.window is not None:
        found["window_days"] = rows.window.total_seconds() / 86_400
        found["validation_log_loss"] = rows.validated
    return found


def _flat(selected: Mapping[str, Any]) -> dict[str, Any]:
    return {f"selection.{name}": value for name, value in selected.items()}


def _profile(holdout: Holdout, training: TrainingSet, trained: slice) -> dict[str, Any]:
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
        "training": {
            "rows": trained.stop - trained.start,
            "from": _iso(training.at[trained][0]),
            "to": _iso(training.at[trained][-1]),
            "base_rate": float(training.y[trained].mean()),
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
