"""Whether a challenger becomes the champion: both scored on the same newest labelled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.decision import Decision
from core.use_case import Policy, UseCase
from registry import metrics
from registry.gate_evidence import (
    calibration_evidence,
    difference_evidence,
    leakage_evidence,
    old_regime_evidence,
    policy_evidence,
    scores_evidence,
    segment_evidence,
)
from registry.verdict import rejudge
from registry.version_folder import LoadedVersion

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HoldoutScores:
    """What a version answers on labelled rows.

    Args:
        labels: int64 (n,), 0 or 1, in order of time.
        scores: float32 (n,), in the same order.
        version: for the record; empty for one that is not registered yet.
        reference_log_loss: the version's on its own holdout, when it was made, in nats; None if unknown.
        reference_auc: likewise, in [0, 1].
    """

    labels: metrics.Labels
    scores: metrics.Scores
    version: str = ""
    reference_log_loss: float | None = None
    reference_auc: float | None = None


def score_rows(
    version: LoadedVersion,
    rows: pd.DataFrame,
    labels: metrics.Labels,
    build_matrix: Callable[[UseCase, pd.DataFrame], Matrix],
    *,
    name: str = "",
) -> HoldoutScores:
    """Score rows with a version's own features, which may differ from those of today's use-case file.

    Args:
        version: e.g. the champion, loaded.
        rows: the questions (at, entities, request fields, what was known), as in a training set.
        labels: their labels.
        build_matrix: the version's feature matrix of such rows, from its own use case: point_in_time_matrix
            over the offline log.
        name: its number, for the record.
    """
    matrix = build_matrix(version.use_case_file.use_case, rows)
    profile = version.profile
    return HoldoutScores(
        labels, version.scorer.score(matrix), name, reference_log_loss=profile.get("log_loss"),
        reference_auc=profile.get("auc"),
    )  # fmt: skip


def judge(
    challenger: HoldoutScores,
    champion: HoldoutScores | None,
    policy: Policy,
    *,
    segments: Mapping[str, npt.NDArray[Any]] | None = None,
    features: Mapping[str, npt.NDArray[np.float32]] | None = None,
    old_regime: tuple[HoldoutScores, HoldoutScores] | None = None,
    tried: int = 1,
    latency_ratio: float | None = None,
) -> Decision:
    """Compare two versions on the same rows by log-loss.

    ``promote`` when the challenger's gain is at least the policy's ``min_gain`` and told from none with the policy's
    confidence, and nothing that the policy asks besides speaks against it; ``reject`` when it is worse with that
    confidence, or seems to know the label; ``keep`` it as challenger otherwise, with what it takes to tell. Without a
    champion it must beat the rows' own base rate. The verdict is made from the evidence alone, by
    `registry.verdict.rejudge`.

    Args:
        challenger: its answers.
        champion: the live version's answers on the same rows; None if there is none yet.
        policy: the use case's.
        segments: values (n,) by which parts of the rows are looked at separately, by column.
        features: the challenger's feature columns (n,), float32, by name: looked at for leaks.
        old_regime: challenger and champion on labelled rows from before the training window.
        tried: how many candidates this one is the best of on these rows: with more than one, chance finds a winner
            more easily, and the bounds widen for it. Source: Bonferroni, in Dunn (1961).
        latency_ratio: time to answer in a staged host over the champion's; None: not measured.

    Returns:
        promote, keep or reject, with the numbers.

    Raises:
        ValueError: if there are no rows, or not the same.
    """
    _require_scores(challenger)
    evidence: dict[str, Any] = {
        "rows": len(challenger.labels),
        "base_rate": float(challenger.labels.mean()),
        "base_rate_log_loss": metrics.base_rate_log_loss(challenger.labels),
        "challenger": {"version": challenger.version} | scores_evidence(challenger.labels, challenger.scores),
        "policy": policy_evidence(policy),
        "leakage": leakage_evidence(features or {}, challenger.labels),
    }
    if champion is not None:
        _require_same_rows(challenger, champion)
        evidence |= _against(challenger, champion, policy, segments or {}, tried)
        if old_regime is not None and len(old_regime[0].labels):
            _require_same_rows(*old_regime)
            evidence["old_regime"] = old_regime_evidence(
                old_regime[0].labels, old_regime[0].scores, old_regime[1].scores, policy.gate.confidence
            )
        if latency_ratio is not None:
            evidence["latency"] = {"ratio": latency_ratio}
    return rejudge(evidence)


def with_latency(decision: Decision, latency: Mapping[str, Any]) -> Decision:
    """The same comparison judged again with what was measured in a staged host.

    Args:
        decision: of `judge`.
        latency: ``ratio`` and whatever else is worth keeping; ``skipped`` with the reason; or ``fault``, if the
            version does not answer as it should.
    """
    return rejudge({**decision.evidence, "latency": dict(latency)})


def with_evidence(decision: Decision, **known: Any) -> Decision:
    """The same comparison judged again with more that was found out.

    Args:
        decision: of `judge`.
        known: e.g. ``model_tests``, as `registry.model_tests.TestReport` gives them as JSON.
    """
    return rejudge({**decision.evidence, **known})


def _against(
    challenger: HoldoutScores,
    champion: HoldoutScores,
    policy: Policy,
    segments: Mapping[str, npt.NDArray[Any]],
    tried: int,
) -> dict[str, Any]:
    """What is measured of a challenger beside a champion."""
    labels, confidence = challenger.labels, policy.gate.confidence
    losses = metrics.row_log_loss(labels, challenger.scores)
    champion_losses = metrics.row_log_loss(labels, champion.scores)
    known = {"version": champion.version} | scores_evidence(labels, champion.scores)
    known |= {"reference_log_loss": champion.reference_log_loss, "reference_auc": champion.reference_auc}
    difference = difference_evidence(champion_losses, losses, 1 - (1 - confidence) / max(tried, 1))
    return {
        "champion": known,
        "tried": tried,
        **difference,
        "segments": segment_evidence(
            champion_losses, losses, segments, confidence=confidence, min_rows=policy.gate.min_segment_rows
        ),
        "calibration": calibration_evidence(labels, challenger.scores, champion.scores, confidence),
    }


def _require_scores(scored: HoldoutScores) -> None:
    if not len(scored.labels) or len(scored.labels) != len(scored.scores):
        raise ValueError(f"cannot judge {len(scored.scores)} scores on {len(scored.labels)} labels")


def _require_same_rows(challenger: HoldoutScores, champion: HoldoutScores) -> None:
    _require_scores(challenger)
    if not np.array_equal(challenger.labels, champion.labels) or len(champion.scores) != len(champion.labels):
        raise ValueError("challenger and champion were not scored on the same rows")
