"""How good probabilities are, against what came true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core import losses

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CalibrationBins:
    """What came true per tenth of the score; bins without rows are left out.

    Args:
        score: mean score per bin.
        rate: share of label 1 per bin.
        rows: rows per bin.
    """

    score: Floats
    rate: Floats
    rows: npt.NDArray[np.int64]


def row_log_loss(labels: Labels, scores: Scores) -> Floats:
    """Negative log-likelihood of each label, in nats, shape (n,)."""
    return losses.row_log_loss(np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64))


def log_loss(labels: Labels, scores: Scores) -> float:
    """Mean log-loss in nats; NaN without rows."""
    return float(row_log_loss(labels, scores).mean()) if len(labels) else float("nan")


def base_rate_log_loss(labels: Labels) -> float:
    """Log-loss of always answering the rows' own share of ones: what a model without features cannot beat."""
    return log_loss(labels, np.full(len(labels), labels.mean() if len(labels) else 0.0))


def auc(labels: Labels, scores: Scores) -> float | None:
    """Chance that a one scores above a zero, ties counting half; None unless both occur."""
    if not 0 < int((labels == 1).sum()) < len(labels):
        return None
    return losses.auc(np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64))


def brier(labels: Labels, scores: Scores) -> float:
    """Mean squared difference of score and label. Source: Brier (1950)."""
    return float(np.mean((np.asarray(scores, dtype=np.float64) - labels) ** 2))


def calibration_bins(labels: Labels, scores: Scores, bins: int = 10) -> CalibrationBins:
    """Mean score and share of ones per equally wide bin of the score."""
    which = np.minimum((np.asarray(scores, dtype=np.float64) * bins).astype(np.int64), bins - 1)
    rows = np.bincount(which, minlength=bins)
    used = rows > 0
    score = np.bincount(which, weights=scores, minlength=bins)[used] / rows[used]
    rate = np.bincount(which, weights=labels, minlength=bins)[used] / rows[used]
    return CalibrationBins(score, rate, rows[used])


def calibration_error(labels: Labels, scores: Scores) -> float:
    """Expected calibration error over ten bins, in [0, 1]. Source: Naeini, Cooper & Hauskrecht (2015)."""
    bins = calibration_bins(labels, scores)
    return float(np.sum(bins.rows * np.abs(bins.score - bins.rate)) / len(labels))
