"""Auditing: are served features what the log says they were?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features.definitions import DerivedView, RequestView, feature_set, view_digest
from features.offline.log import OfflineLog
from features.offline.point_in_time import point_in_time_matrix
from features.streams import entity_text, partition_of

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        rows: predictions compared.
        mismatches: per feature, how many of them differ in any bit.
        largest_difference: per feature, the largest absolute difference.
        skipped: predictions that cannot be compared: of versions that declare their features otherwise, or that knew
            events which are not in the offline log yet.
    """

    rows: int
    mismatches: Mapping[str, int]
    largest_difference: Mapping[str, float]
    skipped: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every value agreed exactly."""
        return not any(self.mismatches.values())


def audit_features(
    log: OfflineLog,
    use_case: UseCase,
    *,
    rows: int = 1000,
    seed: int = 0,
    since: datetime | None = None,
    until: datetime | None = None,
    partitions: int = 1,
) -> AuditReport:
    """Recompute a sample of served feature vectors from the offline log and compare them bit for bit.

    Only predictions that were answered with today's declarations are compared: those that say what they knew of
    every stored view as it is declared now, that have every required field that is read, and of whose version no
    request or derived feature is absent.

    Args:
        log: the offline log.
        use_case: whose predictions.
        rows: how many to sample.
        seed: of the sample.
        since: earliest ``at``.
        until: ``at`` before which.
        partitions: of the event log.
    """
    logged = log.predictions(use_case.name, since=since, until=until)
    if logged.empty:
        return AuditReport(0, {}, {})
    answered = _with_all_fields(use_case, logged[logged["version"] != ""])
    served = answered[_knew_all_views(use_case, answered) & _has_required_fields(use_case, answered)]
    skipped = len(answered) - len(served)
    if served.empty:
        return AuditReport(0, {}, {}, skipped)
    served = served.sample(min(rows, len(served)), random_state=seed)
    is_written = _knew_what_is_written(log, use_case, served, partitions)
    served, skipped = served[is_written], skipped + int(len(served) - is_written.sum())
    if served.empty:
        return AuditReport(0, {}, {}, skipped)
    columns = use_case.features.columns
    ours = point_in_time_matrix(log, use_case, served)
    theirs = served.reindex(columns=[f"f__{column}" for column in columns]).to_numpy(dtype=np.float32)
    kept = _has_all_features(use_case, served["version"].to_numpy(), ours, theirs)
    report = _compared(columns, ours[kept], theirs[kept])
    return replace(report, skipped=skipped + int(len(kept) - kept.sum()))


def _with_all_fields(use_case: UseCase, answered: pd.DataFrame) -> pd.DataFrame:
    """The rows, with nulls for request fields that were added since the last of them was answered."""
    absent = [field for field in use_case.request_fields if field.name not in answered.columns]
    return answered.assign(**{f.name: None if f.dtype == "str" else np.nan for f in absent})


def _has_required_fields(use_case: UseCase, answered: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which predictions have every field that features read and that may not be null today."""
    features = feature_set(use_case)
    keys = {key for view in features.stored_views for key in view.keys}
    read = keys.union(*(view.inputs for view in features.views if isinstance(view, RequestView | DerivedView)))
    required = [field.name for field in use_case.request_fields if field.name in read and not field.nullable]
    return np.asarray(answered[required].notna().to_numpy().all(axis=1))


def _knew_all_views(use_case: UseCase, answered: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which predictions say what they knew of every stored view as it is declared now."""
    found = np.ones(len(answered), dtype=bool)
    for view in feature_set(use_case).stored_views:
        name = f"k__{view.name}@{view_digest(use_case.name, view)}"
        found &= answered[name].to_numpy() >= 0 if name in answered.columns else False
    return found


def _knew_what_is_written(
    log: OfflineLog, use_case: UseCase, served: pd.DataFrame, partitions: int
) -> npt.NDArray[np.bool_]:
    """Which predictions knew only events that are in the offline log: each partition's log is written on its own."""
    flushed = log.flushed()
    written = np.array([flushed.get(f"log-{p}", 0) for p in range(partitions)], dtype=np.int64)
    found = np.ones(len(served), dtype=bool)
    for view in feature_set(use_case).window_views:
        entities = zip(*(_key_values(use_case, served, key) for key in view.keys), strict=True)
        partition = [0 if None in entity else partition_of(entity_text(entity), partitions) for entity in entities]
        known = served[f"k__{view.name}@{view_digest(use_case.name, view)}"].to_numpy(dtype=np.int64)
        found &= known <= written[partition]
    return found


def _key_values(use_case: UseCase, served: pd.DataFrame, key: str) -> list[Any]:
    """An entity's values as they were asked about, None for null."""
    is_int = {field.name: field.dtype == "int" for field in use_case.entities}[key]
    values, present = served[key].tolist(), served[key].notna().tolist()
    return [None if not ok else int(value) if is_int else value for value, ok in zip(values, present, strict=True)]


def _has_all_features(
    use_case: UseCase, version: npt.NDArray[Any], ours: Matrix, theirs: Matrix
) -> npt.NDArray[np.bool_]:
    """Which predictions are of versions that have all features computed from requests and others.

    In the log an absent feature is null like one that is NaN; it is taken to be absent where a version has nothing
    else and there should be numbers.
    """
    features = feature_set(use_case)
    stored = {column for view in features.stored_views for column in view.columns}
    computed = np.array([i for i, column in enumerate(features.columns) if column not in stored], dtype=np.int64)
    found = np.ones(len(version), dtype=bool)
    for name in set(version.tolist()):
        mine = np.flatnonzero(version == name)
        is_null = np.isnan(theirs[np.ix_(mine, computed)]).all(axis=0)
        has_numbers = ~np.isnan(ours[np.ix_(mine, computed)]).all(axis=0)
        found[mine] = not bool((is_null & has_numbers).any())
    return found


def _compared(columns: Sequence[str], ours: Matrix, theirs: Matrix) -> AuditReport:
    if not len(ours):
        return AuditReport(0, {}, {})
    differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    gap = np.where(differs, np.abs(ours.astype(np.float64) - theirs), 0.0)
    return AuditReport(
        rows=len(ours),
        mismatches={column: int(n) for column, n in zip(columns, differs.sum(axis=0), strict=True)},
        largest_difference={column: float(g) for column, g in zip(columns, gap.max(axis=0), strict=True)},
    )
