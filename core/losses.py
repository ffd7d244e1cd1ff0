"""What scores lose on labels: by row, on average, and as an order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Scores are float32: nearer to 0 or 1 than this they carry no information, and log(0) is infinite.
CLIP = float(np.finfo(np.float32).eps)
WORST_LOG_LOSS = float(-np.log(CLIP))
"""The largest loss of a row, in nats."""


def log_loss(label: Floats, score: Floats) -> float:
    """Mean negative log-likelihood in nats of n labels (0 or 1) under n scores; NaN for n = 0.

    Example:
        >>> round(log_loss(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 4)
        0.6931
    """
    return float(np.mean(row_log_loss(label, score))) if label.size else float("nan")


def row_log_loss(label: Floats, score: Floats) -> Floats:
    """Negative log-likelihood of each of n labels in nats, shape (n,).

    A label between 0 and 1 is the chance of a one: its loss is the one to be expected.
    """
    p = np.clip(score, CLIP, 1 - CLIP)
    losses: Floats = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return losses


def row_brier(label: Floats, score: Floats) -> Floats:
    """Squared difference of each of n labels and scores, shape (n,); for chances of a one, the one to be expected."""
    found: Floats = label * (1 - score) ** 2 + (1 - label) * score**2
    return found


def auc(label: Floats, score: Floats) -> float:
    """Probability that a positive row scores above a negative one, ties counting half; NaN with one class only.

    A label between 0 and 1 is the chance of a one: the row counts for that share as positive, else as negative.
    Source: Mann and Whitney (1947), with mid-ranks for ties.

    Example:
        >>> auc(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.4]))
        0.75
    """
    return Ranked(score).auc(label, 1 - label)


def auc_influence(label: Floats, score: Floats) -> Floats:
    """What each row adds to the AUC, shape (n,), with mean 0: to first order that of a resample is AUC plus its mean.

    Source: placements as in DeLong, DeLong & Clarke-Pearson (1988); summed by clusters as in Obuchowski (1997).

    Args:
        label: 0 or 1, both occurring, shape (n,).
        score: shape (n,).
    """
    ranked = Ranked(score)
    below, above = ranked.share_below(1 - label), 1 - ranked.share_below(label)
    share, area = float(label.mean()), ranked.auc(label, 1 - label)
    found: Floats = np.where(label > 0, (below - area) / share, (above - area) / (1 - share))
    return found


class Ranked:
    """Scores in their order, to be asked for areas under any weights.

    Args:
        score: shape (n,).
    """

    def __init__(self, score: Floats) -> None:
        self._order = np.argsort(score, kind="stable")
        ordered = score[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] > ordered[:-1]]) if score.size else np.zeros(0, np.int64)

    def auc(self, ones: Floats, zeros: Floats) -> float:
        """The area when each of n rows counts so much as a one and so much as a zero; NaN if either is nothing."""
        if not self._starts.size:
            return float("nan")
        positive, negative = self._sums(ones), self._sums(zeros)
        pairs = float(positive.sum() * negative.sum())
        return float(positive @ (np.cumsum(negative) - negative / 2)) / pairs if pairs else float("nan")

    def share_below(self, weights: Floats) -> Floats:
        """Of the weights of n rows, the share that scores below each, ties counting half, shape (n,)."""
        sums = self._sums(weights)
        below = (np.cumsum(sums) - sums / 2) / sums.sum()
        sizes = np.diff(np.r_[self._starts, self._order.size])
        found = np.empty(self._order.size)
        found[self._order] = np.repeat(below, sizes)
        return found

    def _sums(self, weights: Floats) -> Floats:
        sums: Floats = np.add.reduceat(weights[self._order].astype(np.float64), self._starts)
        return sums
