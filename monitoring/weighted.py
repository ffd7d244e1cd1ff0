"""Metrics of scores whose rows count several times, as draws of a bootstrap make them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.losses import Floats, Ranked, row_log_loss

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
        self._ranked = Ranked(score)
        self._label = label

    def log_loss(self, weights: Weights) -> float:
        """Mean negative log-likelihood in nats, each row counted `weights` times; NaN if none counts."""
        total = int(weights.sum())
        return float(weights @ self._losses) / total if total else float("nan")

    def auc(self, weights: Weights) -> float:
        """Chance that a one scores above a zero, ties counting half; NaN with one class only.

        Source: Mann and Whitney (1947).
        """
        return self._ranked.auc(weights * self._label, weights * (1 - self._label))
