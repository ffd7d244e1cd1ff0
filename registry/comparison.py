"""Candidates beside the champion: all scored on the same rows, the best of them judged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.decision import Decision
from core.discovery import UseCaseFile
from core.errors import TrainingError
from core.policy import Policy
from core.use_case import UseCase
from features.offline.training import TrainingSet
from features.segments import segment_values
from registry import metrics
from registry.candidate import Candidate, build_candidate
from registry.gate import HoldoutScores, judge, score_rows
from registry.scorer import OnnxScorer
from registry.selection import describe
from registry.version_folder import LoadedVersion

_log = logging.getLogger(__name__)
Matrix = npt.NDArray[np.float32]
BuildMatrix = Callable[[UseCase, pd.DataFrame], Matrix]
VERDICTS = ("promote", "keep", "reject")
"""The best first."""


@dataclass(frozen=True)
class Champion:
    """The version that candidates are compared with.

    Args:
        version: its number.
        loaded: itself.
    """

    version: str
    loaded: LoadedVersion


def build_candidates(
    declared: UseCaseFile, training: TrainingSet, moment: datetime, previous: Callable[[], Any], *, prove: bool = True
) -> list[Candidate]:
    """Train on each of the policy's selections.

    Args:
        declared: the use case.
        training: rows enough for the widest of them, sorted by time.
        moment: from which the ages of rows count.
        previous: fetches the champion's estimator as fitted, or None; asked once, and only for a warm start.
        prove: whether parity is proven here if there is one selection alone; of several it always is, so that one
            that cannot serve leaves the field to the others.

    Returns:
        At least one; a selection that cannot be trained on is left out with a warning.

    Raises:
        TrainingError: of the first selection, if none of them can be trained on.
    """
    selections = declared.use_case.policy.trains_on
    kept = previous() if any(each.warm_start for each in selections) else None
    found, problems = [], []
    for each in selections:
        try:
            candidate = build_candidate(
                declared, training, selection=each, moment=moment, previous=kept, prove=prove or len(selections) > 1
            )
        except TrainingError as problem:
            _log.warning("%s: %s: %s", declared.use_case.name, describe(each), problem)
            problems.append(problem)
        else:
            found.append(candidate)
    if not found:
        raise problems[0]
    return found


def pick(
    candidates: Sequence[Candidate],
    champion: Champion | None,
    old_rows: TrainingSet | None,
    policy: Policy,
    build_matrix: BuildMatrix,
) -> tuple[Candidate, Decision]:
    """Judge every candidate, and keep the one with the best verdict; of equals, the one with the lowest log-loss.

    Args:
        candidates: trained on different selections of the same rows, at least one; their holdout is the same.
        champion: None if there is none yet.
        old_rows: labelled rows from before any of their training windows; None if there are none.
        policy: the use case's.
        build_matrix: a version's own features of some rows, see `score_rows`.

    Returns:
        The candidate and its verdict, whose evidence tells the selections that were tried.
    """
    answers = old_answers = None
    holdout = candidates[0].holdout
    if champion is not None:
        answers = score_rows(champion.loaded, holdout.requests, holdout.y, build_matrix, name=champion.version)
        if old_rows is not None and len(old_rows.y):
            old_answers = score_rows(champion.loaded, old_rows.requests, old_rows.y, build_matrix)
    verdicts = [
        _judge(each, answers, old_rows, old_answers, policy=policy, tried=len(candidates)) for each in candidates
    ]
    losses = [metrics.log_loss(each.holdout.y, each.holdout.scores) for each in candidates]
    best = min(range(len(candidates)), key=lambda i: (VERDICTS.index(verdicts[i].action), losses[i], i))
    tried = [
        {"selection": dict(each.profile["selection"]), "log_loss": losses[i], "verdict": verdicts[i].action}
        for i, each in enumerate(candidates)
    ]
    chosen, verdict = candidates[best], verdicts[best]
    evidence = {**verdict.evidence, "selection": dict(chosen.profile["selection"]), "selections_tried": tried}
    return chosen, Decision(verdict.action, verdict.reason, evidence)


def _judge(
    candidate: Candidate,
    answers: HoldoutScores | None,
    old_rows: TrainingSet | None,
    old_answers: HoldoutScores | None,
    *,
    policy: Policy,
    tried: int,
) -> Decision:
    holdout, columns = candidate.holdout, candidate.columns
    old_regime = None
    if old_rows is not None and old_answers is not None:
        old_regime = (HoldoutScores(old_rows.y, OnnxScorer(candidate.onnx).score(old_rows.X)), old_answers)
    return judge(
        HoldoutScores(holdout.y, holdout.scores),
        answers,
        policy,
        segments=segment_values(
            candidate.use_case_file.use_case, holdout.requests, pd.DataFrame(holdout.X, columns=list(columns))
        ),
        features={name: holdout.X[:, i] for i, name in enumerate(columns)},
        old_regime=old_regime,
        tried=tried,
    )
