"""Training sets: past questions with their features as known then, and the labels known since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features.offline.log import OfflineLog
from features.offline.point_in_time import Progress, point_in_time_matrix
from features.offline.questions import to_us_array


@dataclass(frozen=True)
class TrainingSet:
    """n labelled questions, sorted by time.

    Args:
        X: features as known when each was asked, float32 (n, d).
        y: labels, int64 (n,), 0 or 1.
        at: when each was asked, datetime64[us] UTC (n,).
        columns: names of the d features.
        prediction_ids: ids (n,).
        requests: the questions: at, entities, request fields, and what was known of each stored view
            (``k__<view>@<digest>``, see `features.offline.point_in_time`).
        fingerprint: SHA-256 of times, features and labels; the same data gives the same, whatever the ids.
        dropped: rows left out by each of the use case's checks, by name.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    at: npt.NDArray[np.datetime64]
    columns: tuple[str, ...]
    prediction_ids: npt.NDArray[Any]
    requests: pd.DataFrame
    fingerprint: str
    dropped: Mapping[str, int]

    def newest(self, rows: int) -> TrainingSet:
        """Its newest rows, at most so many; counts of what was left out stay those of all."""
        if rows >= len(self.y):
            return self
        kept = slice(len(self.y) - rows, None)
        fewer = replace(
            self, X=self.X[kept], y=self.y[kept], at=self.at[kept], prediction_ids=self.prediction_ids[kept],
            requests=self.requests.iloc[kept],
        )  # fmt: skip
        return replace(fewer, fingerprint=fingerprint(fewer.X, fewer.y, fewer.at.astype(np.int64), fewer.columns))


def build_training_set(
    log: OfflineLog, use_case: UseCase, *, as_of: datetime, since: datetime, progress: Progress | None = None
) -> TrainingSet:
    """Questions asked since `since` whose label is due and known by `as_of`, checked and sorted by time.

    A label is due one horizon after the question. Younger questions are left out even where their label is
    known: which labels come early may depend on the label. Rows that fail one of the use case's checks are left
    out and counted.

    Args:
        log: the offline log.
        use_case: whose questions.
        as_of: the moment from which to look back.
        since: earliest time of a question.
        progress: is told how much of how much of the join is done.
    """
    fields = [f.name for f in use_case.request_fields]
    questions = log.predictions(use_case.name, since=since, until=as_of - use_case.label.horizon)
    labels = log.labels(use_case.name, since=since, known_by=as_of)
    questions = questions.reindex(columns=[*questions.columns, *(f for f in fields if f not in questions)])
    known = [name for name in questions.columns if name.startswith("k__")]
    wanted = ["prediction_id", "at", *fields, *known]
    if questions.empty or labels.empty:
        rows = pd.DataFrame(columns=[*wanted, "label"])
    else:
        rows = questions[wanted].merge(labels[["prediction_id", "label"]], on="prediction_id")
    rows, incomplete = _require_fields(use_case, rows)
    rows, dropped = apply_checks(use_case, rows)
    dropped = incomplete | dropped
    rows = rows.sort_values(["at", *fields, "label"], kind="stable").reset_index(drop=True)
    if rows.empty:
        matrix = np.zeros((0, len(use_case.features.columns)), dtype=np.float32)
    else:
        matrix = point_in_time_matrix(log, use_case, rows, progress=progress)
    y = rows["label"].to_numpy(dtype=np.int64)
    at_us = to_us_array(rows["at"]) if len(rows) else np.zeros(0, dtype=np.int64)
    return TrainingSet(
        X=matrix, y=y, at=at_us.astype("datetime64[us]"), columns=use_case.features.columns,
        prediction_ids=rows["prediction_id"].to_numpy(dtype=object), requests=rows[wanted[1:]],
        fingerprint=fingerprint(matrix, y, at_us, use_case.features.columns), dropped=dropped,
    )  # fmt: skip


def _require_fields(use_case: UseCase, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out rows from before a field that is required now was asked for; named only if there are any."""
    required = [f.name for f in use_case.request_fields if not f.nullable and f.dtype != "str"]
    complete = rows[required].notna().all(axis=1)
    if complete.all():
        return rows, {}
    return rows[complete], {"a required field is missing": int((~complete).sum())}


def passes_checks(use_case: UseCase, rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows a training set would keep: those with every required field that pass the checks, bool (n,)."""
    numbered = rows.reset_index(drop=True)
    kept, _ = apply_checks(use_case, _require_fields(use_case, numbered)[0])
    found = np.zeros(len(numbered), dtype=bool)
    found[kept.index.to_numpy()] = True
    return found


def apply_checks(use_case: UseCase, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out the rows that fail a check; each row is counted under the first it fails."""
    dropped: dict[str, int] = {}
    for check in use_case.checks:
        if rows.empty:
            dropped[check.name] = 0
            continue
        keep = np.asarray(check.keep(rows), dtype=bool)
        dropped[check.name] = int(len(rows) - keep.sum())
        rows = rows[keep]
    return rows, dropped


def fingerprint(
    matrix: npt.NDArray[np.float32], y: npt.NDArray[np.int64], at_us: npt.NDArray[np.int64], columns: tuple[str, ...]
) -> str:
    """SHA-256 over column names, times, features and labels."""
    digest = hashlib.sha256("\n".join(columns).encode())
    for part in (at_us.astype("<i8"), matrix.astype("<f4"), y.astype("<i8")):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
