"""Metrics of scores whose rows count several times, as draws of a bootstrap make them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitoring.performance import row_log_loss

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]


class Weighted:
    """The metrics of some labelled scores under any weights.

    Args:
        label: 0 or 1, shape (n,).
        score: probabilities, shape (n,).

    Example:
        >>> scored = Weighted(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.4]))
        >>> scored.auc(np.ones(3, dtype=np.int64))
        0.75
    """

    def __init__(self, label: Floats, score: Floats) -> None:
        self._losses = row_log_loss(label, score)
        self._order = np.argsort(score, kind="stable")
        self._is_one = label[self._order] > 0
        ordered = score[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] > ordered[:-1]]) if score.size else np.zeros(0, np.int64)

    def log_loss(self, weights: Weights) -> float:
        """Mean negative log-likelihood in nats, each row counted `weights` times; NaN if none counts."""
        total = int(weights.sum())
        return float(weights @ self._losses) / total if total else float("nan")

    def auc(self, weights: Weights) -> float:
        """Chance that a one scores above a zero, ties counting half; NaN with one class only.

        Source: Mann and Whitney (1947).
        """
        if not self._starts.size:
            return float("nan")
        drawn = weights[self._order].astype(np.float64)
        ones = np.add.reduceat(drawn * self._is_one, self._starts)
        zeros = np.add.reduceat(drawn * ~self._is_one, self._starts)
        pairs = float(ones.sum() * zeros.sum())
        return float(ones @ (np.cumsum(zeros) - zeros / 2)) / pairs if pairs else float("nan")
