"""How well predictions turned out, measured on the labels that came back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.clock import as_utc

# Scores are float32: nearer to 0 or 1 than this they carry no information, and log(0) is infinite.
_CLIP = float(np.finfo(np.float32).eps)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Quality of the scores of labelled predictions.

    Args:
        rows: labelled predictions measured.
        coverage: labelled share of the predictions whose label was due, in [0, 1]; NaN if none was due.
        log_loss: mean negative log-likelihood in nats; NaN without rows.
        auc: area under the ROC curve, in [0, 1]; NaN unless both labels occur.
        brier: mean squared difference of score and label, in [0, 1]; NaN without rows.
        base_rate: share of positive labels, in [0, 1]; NaN without rows.
        from_at: time of the first row, None without rows.
        to_at: time of the last row, None without rows.
    """

    rows: int
    coverage: float
    log_loss: float
    auc: float
    brier: float
    base_rate: float
    from_at: datetime | None
    to_at: datetime | None

    def facts(self) -> dict[str, Any]:
        """The numbers as JSON: NaN becomes None, times become ISO 8601."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame, horizon: timedelta, as_of: datetime) -> pd.DataFrame:
    """Put labels beside the predictions whose label is due.

    Predictions younger than the horizon are left out even when their label is there already: which labels
    come early depends on the label. A label known after its prediction's horizon corrects an earlier one.

    Args:
        predictions: at least ``prediction_id``, ``at`` and ``score``.
        labels: ``prediction_id``, ``label``, ``known_at``.
        horizon: how long a label may take.
        as_of: the moment it is asked for; labels known later are not looked at.

    Returns:
        The due predictions in their order, with ``label`` as float: 0, 1, or NaN where none came.
    """
    if predictions.empty:
        return predictions.assign(label=np.zeros(0))
    moment = pd.Timestamp(as_utc(as_of))
    due = predictions.loc[predictions["at"] + horizon <= moment]
    if labels.empty:
        return due.assign(label=np.nan)
    known = labels.loc[labels["known_at"] <= moment].sort_values("known_at", kind="stable")
    last = known.drop_duplicates("prediction_id", keep="last").set_index("prediction_id")["label"]
    return due.assign(label=due["prediction_id"].map(last).astype("float64"))


def measure(labelled: pd.DataFrame) -> Performance:
    """Measure the scores of a frame made by `join_labels`."""
    due = len(labelled)
    rows = labelled.loc[labelled["label"].notna()] if due else labelled
    n = len(rows)
    if n == 0:
        nan = float("nan")
        return Performance(
            rows=0, coverage=0.0 if due else nan, log_loss=nan, auc=nan, brier=nan, base_rate=nan,
            from_at=None, to_at=None,
        )  # fmt: skip
    label = rows["label"].to_numpy(dtype=np.float64)
    score = rows["score"].to_numpy(dtype=np.float64)
    return Performance(
        rows=n,
        coverage=n / due,
        log_loss=log_loss(label, score),
        auc=auc(label, score),
        brier=float(np.mean((score - label) ** 2)),
        base_rate=float(label.mean()),
        from_at=rows["at"].min().to_pydatetime(),
        to_at=rows["at"].max().to_pydatetime(),
    )


def log_loss(label: Floats, score: Floats) -> float:
    """Mean negative log-likelihood in nats of n labels (0 or 1) under n scores; NaN for n = 0.

    Example:
        >>> round(log_loss(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 4)
        0.6931
    """
    return float(np.mean(row_log_loss(label, score))) if label.size else float("nan")


def row_log_loss(label: Floats, score: Floats) -> Floats:
    """Negative log-likelihood of each of n labels in nats, shape (n,)."""
    p = np.clip(score, _CLIP, 1 - _CLIP)
    losses: Floats = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return losses


def auc(label: Floats, score: Floats) -> float:
    """Probability that a positive row scores above a negative one, ties counting half; NaN with one class only.

    Source: Mann and Whitney (1947), with mid-ranks for ties.

    Example:
        >>> auc(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.4]))
        0.75
    """
    positives = float(label.sum())
    negatives = label.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    above = mid_rank[inverse][label > 0].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and np.isnan(value) else value
