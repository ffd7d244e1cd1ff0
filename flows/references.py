"""The reference profile of a version: made when it is trained, read when it is watched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.clock import from_us
from core.use_case import UseCase
from features.offline.event_times import longest_pause_s
from features.offline.log import OfflineLog
from features.offline.training import TrainingSet
from features.segments import segment_values
from monitoring.profile import LABEL, SCORE, ReferenceProfile
from monitoring.profile_json import FILE, dump_profile, load_profile
from monitoring.profiling import profile_reference
from registry.candidate import Candidate
from registry.plots import permutation_importance


def reference_files(candidate: Candidate, training: TrainingSet, log: OfflineLog) -> dict[str, bytes]:
    """The profile of all rows a version was made of, as files of its folder.

    Args:
        candidate: the version; scores are those of its holdout.
        training: the rows.
        log: with the events that came while they were asked.
    """
    importance = dict(zip(candidate.columns, permutation_importance(candidate).tolist(), strict=True))
    use_case = candidate.use_case_file.use_case
    since, until = asked_in(training)
    pauses = {each.name: longest_pause_s(log, each.name, since, until) for each in use_case.sources}
    profile = profile_training(use_case, training, candidate.holdout.scores, importance, pauses)
    return {FILE: dump_profile(profile)}


def profile_training(
    use_case: UseCase,
    training: TrainingSet,
    holdout_scores: npt.NDArray[np.float32],
    importance: Mapping[str, float] | None = None,
    pauses_s: Mapping[str, float | None] | None = None,
) -> ReferenceProfile:
    """The profile of a training set whose newest rows were held out and scored.

    Args:
        use_case: whose.
        training: its rows, holdout included.
        holdout_scores: the version's on its newest rows, float32 (m,).
        importance: of the features; None: unknown.
        pauses_s: of each event source, the longest time without any; None: unknown.
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
        pauses_s={source: pause for source, pause in (pauses_s or {}).items() if pause is not None},
        segments=segment_values(use_case, training.requests, pd.DataFrame(training.X, columns=list(training.columns))),
    )


def asked_in(training: TrainingSet) -> tuple[datetime, datetime]:
    """From when until when its rows were asked."""
    at_us = training.at.astype("datetime64[us]").astype(np.int64)
    return from_us(int(at_us[0])), from_us(int(at_us[-1]) + 1)


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
        segments=segment_values(use_case, rows[columns]),
    )
