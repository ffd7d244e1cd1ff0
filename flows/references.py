"""The reference profile of a version: made when it is trained, read when it is watched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features.offline.training import TrainingSet
from monitoring.profile import LABEL, SCORE, ReferenceProfile
from monitoring.profile_json import FILE, dump_profile, load_profile
from monitoring.profiling import profile_reference
from registry.candidate import Candidate
from registry.plots import permutation_importance


def reference_files(candidate: Candidate, training: TrainingSet) -> dict[str, bytes]:
    """The profile of all rows a version was made of, as files of its folder; scores are those of its holdout."""
    importance = dict(zip(candidate.columns, permutation_importance(candidate).tolist(), strict=True))
    profile = profile_training(candidate.use_case_file.use_case, training, candidate.holdout.scores, importance)
    return {FILE: dump_profile(profile)}


def profile_training(
    use_case: UseCase,
    training: TrainingSet,
    holdout_scores: npt.NDArray[np.float32],
    importance: Mapping[str, float] | None = None,
) -> ReferenceProfile:
    """The profile of a training set whose newest rows were held out and scored.

    Args:
        use_case: whose.
        training: its rows, holdout included.
        holdout_scores: the version's on its newest rows, float32 (m,).
        importance: of the features; None: unknown.
    """
    learnt_from = np.full(len(training.y) - len(holdout_scores), np.nan)
    return profile_reference(
        training.X,
        training.columns,
        at=training.at,
        categorical=use_case.categorical,
        scores=np.r_[learnt_from, holdout_scores],
        labels=training.y,
        importance=importance,
        segments=_segments(use_case, training.requests, pd.DataFrame(training.X, columns=list(training.columns))),
    )


def load_reference(use_case: UseCase, folder: Path) -> ReferenceProfile:
    """The profile in a version's folder; of one made before there were profiles, that of its recorded rows."""
    if (folder / FILE).exists():
        return load_profile((folder / FILE).read_bytes())
    rows = pd.read_parquet(folder / "reference.parquet")
    columns = [name for name in rows.columns if name not in (SCORE, LABEL, "at")]
    return profile_reference(
        rows[columns].to_numpy(dtype=np.float32),
        columns,
        at=rows["at"].dt.tz_convert(None).to_numpy(),
        categorical=[name for name in use_case.categorical if name in columns],
        scores=rows[SCORE].to_numpy(),
        labels=rows[LABEL].to_numpy(),
        segments=_segments(use_case, rows[columns]),
    )


def _segments(use_case: UseCase, *tables: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """The columns by whose values rows are told apart, each from the first table that has it."""
    return {
        name: next(table for table in tables if name in table)[name].to_numpy()
        for name in use_case.policy.segments
        if any(name in table for table in tables)
    }
