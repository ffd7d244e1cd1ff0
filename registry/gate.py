"""Whether a challenger becomes the champion: both scored on the same newest labelled rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.decision import Decision
from core.use_case import Policy, UseCase
from registry import metrics
from registry.version_folder import LoadedVersion

Matrix = npt.NDArray[np.float32]

_RESAMPLES = 500
_CONFIDENCE = 0.95
_SEED = 0
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class HoldoutScores:
    """What a version answers on labelled rows.

    Args:
        labels: int64 (n,), 0 or 1.
        scores: float32 (n,), in the same order.
        version: for the record; empty for one that is not registered yet.
    """

    labels: metrics.Labels
    scores: metrics.Scores
    version: str = ""


def score_rows(
    version: LoadedVersion,
    rows: pd.DataFrame,
    labels: metrics.Labels,
    build_matrix: Callable[[UseCase, pd.DataFrame], Matrix],
) -> HoldoutScores:
    """Score rows with a version's own features, which may differ from those of today's use-case file.

    Args:
        version: e.g. the champion, loaded.
        rows: the questions (at, entities, request fields, what was known), as in a training set.
        labels: their labels.
        build_matrix: the version's feature matrix of such rows, from its own use case: point_in_time_matrix
            over the offline log.
    """
    matrix = build_matrix(version.use_case_file.use_case, rows)
    return HoldoutScores(labels, version.scorer.score(matrix))


def judge(challenger: HoldoutScores, champion: HoldoutScores | None, policy: Policy) -> Decision:
    """Compare two versions on the same rows by log-loss.

    ``promote`` when the challenger's log-loss is lower by at least the policy's ``min_gain``; ``reject`` when it
    is higher beyond the paired bootstrap interval; ``keep`` it as challenger otherwise. Without a champion it
    must beat the rows' own base rate.

    Args:
        challenger: its answers.
        champion: the live version's answers on the same rows; None if there is none yet.
        policy: the use case's.

    Returns:
        promote, keep or reject, with the numbers.

    Raises:
        ValueError: if there are no rows, or not the same.
    """
    if not len(challenger.labels) or len(challenger.labels) != len(challenger.scores):
        raise ValueError(f"cannot judge {len(challenger.scores)} scores on {len(challenger.labels)} labels")
    if champion is None:
        return _judge_first(challenger)
    if not np.array_equal(challenger.labels, champion.labels) or len(champion.scores) != len(champion.labels):
        raise ValueError("challenger and champion were not scored on the same rows")
    losses = metrics.row_log_loss(challenger.labels, challenger.scores)
    champion_losses = metrics.row_log_loss(champion.labels, champion.scores)
    mean, champion_mean = float(losses.mean()), float(champion_losses.mean())
    low, high = paired_interval(champion_losses - losses)
    gain = champion_mean - mean
    relative = gain / champion_mean if champion_mean > 0 else 0.0
    evidence = _evidence(challenger, champion) | {
        "gain": gain,
        "relative_gain": relative,
        "gain_interval": [low, high],
        "confidence": _CONFIDENCE,
        "min_gain": policy.min_gain,
    }
    numbers = f"log-loss {mean:.4f} against the champion's {champion_mean:.4f} on the same {len(losses)} newest rows"
    interval = f"{_CONFIDENCE:.0%} interval of the difference {low:+.4f} to {high:+.4f}"
    if gain > 0 and relative >= policy.min_gain:
        return Decision("promote", f"{numbers}: {relative:.2%} better ({interval}).", evidence)
    if high < 0:
        return Decision("reject", f"{numbers}: {-relative:.2%} worse ({interval}).", evidence)
    wanted = f"at least {policy.min_gain:.1%} is wanted" if policy.min_gain > 0 else "it must be better"
    return Decision("keep", f"{numbers}: {relative:+.2%}, {wanted} ({interval}).", evidence)


def paired_interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Bounds within which the mean of paired differences lies with 95 % confidence.

    Source: Efron (1979), percentile bootstrap, 500 resamples of rows with a fixed seed.
    """
    rng, n = np.random.default_rng(_SEED), len(differences)
    at_once = max(1, _CELLS_AT_ONCE // n)
    means = [
        differences[rng.integers(0, n, (min(at_once, _RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, _RESAMPLES, at_once)
    ]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def _judge_first(challenger: HoldoutScores) -> Decision:
    loss = metrics.log_loss(challenger.labels, challenger.scores)
    base = metrics.base_rate_log_loss(challenger.labels)
    evidence = _evidence(challenger, None) | {"base_rate_log_loss": base}
    numbers = f"log-loss {loss:.4f} against {base:.4f} of the base rate on {len(challenger.labels)} newest rows"
    if loss < base:
        return Decision("promote", f"first version, {numbers}: better.", evidence)
    return Decision("reject", f"first version, {numbers}: no better than a constant.", evidence)


def _evidence(challenger: HoldoutScores, champion: HoldoutScores | None) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(challenger.labels), "base_rate": float(challenger.labels.mean())}
    for role, scored in (("challenger", challenger), ("champion", champion)):
        if scored is not None:
            found[role] = {
                "version": scored.version,
                "log_loss": metrics.log_loss(scored.labels, scored.scores),
                "auc": metrics.auc(scored.labels, scored.scores),
                "brier": metrics.brier(scored.labels, scored.scores),
                "calibration_error": metrics.calibration_error(scored.labels, scored.scores),
            }
    return found
