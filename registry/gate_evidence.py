"""What a verdict is made from, measured, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from core.policy import Policy
from features.segments import Cut
from registry import metrics
from registry.leakage import features_alone
from registry.paired import POWER, RESAMPLES, Floats, drawn_means, paired_mean

_CURVE_POINTS = 40
_BINS = 10
_CALIBRATION_RESAMPLES = 500
_CALIBRATION_ROWS = 20_000
_SHOWN_FEATURES = 10
_SEGMENT_RESAMPLES = 1000


def policy_evidence(policy: Policy) -> dict[str, Any]:
    """The part of a policy that a verdict depends on."""
    return {"min_gain": policy.min_gain} | asdict(policy.gate)


def scores_evidence(labels: metrics.Labels, scores: metrics.Scores) -> dict[str, Any]:
    """How good a version's answers are by themselves."""
    bins = metrics.calibration_bins(labels, scores, _BINS)
    return {
        "log_loss": metrics.log_loss(labels, scores),
        "auc": metrics.auc(labels, scores),
        "brier": metrics.brier(labels, scores),
        "calibration_error": metrics.calibration_error(labels, scores),
        "bins": {"score": bins.score.tolist(), "rate": bins.rate.tolist(), "rows": bins.rows.tolist()},
    }


def difference_evidence(champion_losses: Floats, losses: Floats, confidence: float) -> dict[str, Any]:
    """The paired difference of log-loss, its bounds, and how fine it can be told.

    Args:
        champion_losses: in nats, (n,), in order of time.
        losses: the challenger's, likewise.
        confidence: of each bound.
    """
    known = paired_mean(champion_losses - losses, confidence)
    champion_mean = float(champion_losses.mean())
    return {
        "gain": known.mean,
        "relative_gain": known.mean / champion_mean if champion_mean > 0 else 0.0,
        "gain_interval": [known.low, known.high],
        "confidence": confidence,
        "test": {
            "standard_error": known.standard_error,
            "critical": known.critical,
            "block_rows": known.block_rows,
            "resamples": RESAMPLES,
            "power": POWER,
        },
        "gain_over_time": [
            float(part.mean()) for part in np.array_split(champion_losses - losses, min(_CURVE_POINTS, known.rows))
        ],
    }


def segment_evidence(
    champion_losses: Floats,
    losses: Floats,
    segments: Mapping[str, npt.NDArray[Any]],
    *,
    confidence: float,
    min_rows: int,
) -> list[dict[str, Any]]:
    """By segment of at least `min_rows`, the rise of log-loss and the least it is, in nats; the worst first."""
    found = []
    parts = (part for name, values in segments.items() for part in Cut.of(name, values).masks(values))
    for name, mask in parts:
        rows = int(mask.sum())
        if rows < max(min_rows, 1):
            continue
        champion = float(champion_losses[mask].mean())
        known = paired_mean(losses[mask] - champion_losses[mask], confidence, resamples=_SEGMENT_RESAMPLES)
        found.append(
            {
                "name": name, "rows": rows, "champion_log_loss": champion, "rise": known.mean,
                "rise_interval": [known.low, known.high],
            }
        )  # fmt: skip
    return sorted(found, key=lambda each: -each["rise_interval"][0])


def calibration_evidence(
    labels: metrics.Labels, scores: metrics.Scores, champion_scores: metrics.Scores, confidence: float
) -> dict[str, Any]:
    """How much larger the calibration error is than the champion's, and the least it is.

    The least is by the paired block bootstrap of the newest 20,000 rows, centred: drawing rows again makes either
    error larger by about as much.
    """
    newest = slice(-_CALIBRATION_ROWS, None)
    labels, scores, champion_scores = labels[newest], scores[newest], champion_scores[newest]
    n = len(labels)
    block_rows = max(1, n // _CURVE_POINTS)
    drawn = _drawn_errors(labels, scores, block_rows) - _drawn_errors(labels, champion_scores, block_rows)
    difference = metrics.calibration_error(labels, scores) - metrics.calibration_error(labels, champion_scores)
    low = difference - float(np.quantile(drawn, confidence) - drawn.mean())
    return {"rise": difference, "rise_low": min(low, difference)}


def old_regime_evidence(
    labels: metrics.Labels, scores: metrics.Scores, champion_scores: metrics.Scores, confidence: float
) -> dict[str, Any]:
    """The rise of log-loss on rows from before the training window, which the champion may have been trained on."""
    losses, champion = metrics.row_log_loss(labels, scores), metrics.row_log_loss(labels, champion_scores)
    known = paired_mean(losses - champion, confidence)
    return {
        "rows": len(labels),
        "log_loss": float(losses.mean()),
        "champion_log_loss": float(champion.mean()),
        "rise": known.mean,
        "rise_interval": [known.low, known.high],
    }


def leakage_evidence(features: Mapping[str, npt.NDArray[np.float32]], labels: metrics.Labels) -> list[dict[str, Any]]:
    """The features that tell the labels apart best, each alone; the strongest first."""
    return [asdict(each) for each in features_alone(features, labels)[:_SHOWN_FEATURES]]


def _drawn_errors(labels: metrics.Labels, scores: metrics.Scores, block_rows: int) -> Floats:
    """Expected calibration error of each draw of blocks, (draws,)."""
    values = np.asarray(scores, dtype=np.float64)
    which = np.minimum((values * _BINS).astype(np.int64), _BINS - 1)
    off = np.zeros((len(labels), _BINS))
    off[np.arange(len(labels)), which] = values - labels
    errors: Floats = np.abs(drawn_means(off, block_rows, _CALIBRATION_RESAMPLES)).sum(axis=1)
    return errors
