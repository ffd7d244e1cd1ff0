"""All that was ever asked, with its features as known then and how it turned out: the same whatever the policy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.clock import from_us, to_us
from core.use_case import History, UseCase
from features.offline.event_times import pause_within
from features.offline.log import OfflineLog
from features.offline.point_in_time import Progress, point_in_time_matrix, to_us_array
from features.offline.training import TrainingSet, fingerprint, passes_checks
from features.tables import TableAccess
from monitoring.replay.importing import import_events, refresh_views, span_of

Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
NEVER_US = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Asked:
    """n questions, in the order of training sets.

    Args:
        use_case: whose.
        rows: ``prediction_id``, ``at`` and the request fields.
        matrix: features as known at `at`, float32 (n, d).
        at_us: when each was asked, microseconds since 1970, rising.
        label: 0 or 1, -1 where none ever came, int64 (n,).
        known_us: when the label became known, `NEVER_US` where none did, int64 (n,).
        trainable: whether a row passes the data checks and has every required field, bool (n,).
        event_us: of each event source, when its events became known, microseconds since 1970, rising.
    """

    use_case: UseCase
    rows: pd.DataFrame
    matrix: Matrix
    at_us: Ints
    label: Ints
    known_us: Ints
    trainable: npt.NDArray[np.bool_]
    event_us: Mapping[str, Ints] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.at_us)

    def between(self, since: datetime, until: datetime) -> slice:
        """The questions asked in [since, until)."""
        first, last = np.searchsorted(self.at_us, [to_us(since), to_us(until)])
        return slice(int(first), int(last))

    def training_rows(self, since: datetime, as_of: datetime) -> Ints:
        """Positions of what a training set of [since, as_of) would hold: see `build_training_set`."""
        cut = self.between(since, as_of - self.use_case.label.horizon)
        known = self.known_us[cut]
        is_there = (known <= to_us(as_of)) & (known >= to_us(since)) & self.trainable[cut]
        return np.asarray(np.flatnonzero(is_there) + cut.start, dtype=np.int64)

    def training_set(self, rows: Ints) -> TrainingSet:
        """The training set of some rows, equal bit for bit to what the offline log gives."""
        columns, matrix, y = self.use_case.features.columns, self.matrix[rows], self.label[rows]
        part = self.rows.iloc[rows].reset_index(drop=True)
        return TrainingSet(
            X=matrix, y=y, at=self.at_us[rows].astype("datetime64[us]"), columns=columns,
            prediction_ids=part["prediction_id"].to_numpy(dtype=object), requests=part.drop(columns="prediction_id"),
            fingerprint=fingerprint(matrix, y, self.at_us[rows], columns), dropped={},
        )  # fmt: skip

    def predictions(self, cut: slice, scores: Matrix, versions: npt.NDArray[np.object_]) -> pd.DataFrame:
        """Rows of the prediction log, as if these had been answered."""
        frame = self._as_logged.iloc[cut]
        return frame.assign(score=scores[cut], version=versions[cut])

    def labels(self, since: datetime, known_by: datetime) -> pd.DataFrame:
        """Labels that became known in [since, known_by]: ``prediction_id, label, at, known_at``, in that order."""
        order, known_us = self._by_known
        first, last = np.searchsorted(known_us, [to_us(since), to_us(known_by) + 1])
        known = order[first:last]
        at = pd.Series(self.known_us[known].astype("datetime64[us]")).dt.tz_localize("UTC")
        ids = self.rows["prediction_id"].to_numpy()[known]
        return pd.DataFrame({"prediction_id": ids, "label": self.label[known].astype("int8"), "at": at, "known_at": at})

    def due(self, rows: Ints, scores: Matrix, known_by: datetime) -> pd.DataFrame:
        """What `join_labels` gives for some rows whose label is due: ``prediction_id, at, score, label``."""
        there = (self.label[rows] >= 0) & (self.known_us[rows] <= to_us(known_by))
        label = np.where(there, self.label[rows].astype(np.float64), np.nan)
        return self.rows[["prediction_id", "at"]].iloc[rows].assign(score=scores[rows], label=label)

    def newest_events(self, known_by: datetime) -> dict[str, datetime]:
        """Of each event source, when its newest event became known, of those known by a moment."""
        last = {source: int(np.searchsorted(us, to_us(known_by), "right")) for source, us in self.event_us.items()}
        return {source: from_us(int(self.event_us[source][i - 1])) for source, i in last.items() if i}

    def pauses_s(self, since: datetime, until: datetime) -> dict[str, float | None]:
        """Of each event source, the longest time in [since, until) in which no event became known."""
        bounds = [to_us(since), to_us(until)]
        parts = {source: [us[slice(*np.searchsorted(us, bounds))]] for source, us in self.event_us.items()}
        return {source: pause_within(since, until, part) for source, part in parts.items()}

    @cached_property
    def _by_known(self) -> tuple[Ints, Ints]:
        """The questions in the order their labels became known, and when these did."""
        order = np.argsort(self.known_us, kind="stable")
        return order, self.known_us[order]

    @cached_property
    def _as_logged(self) -> pd.DataFrame:
        served = pd.DataFrame(
            self.matrix, columns=[f"f__{name}" for name in self.use_case.features.columns], copy=False
        )
        return pd.concat([self.rows.assign(degraded=False), served], axis=1)


def ask_all(
    use_case: UseCase, history: History, access: TableAccess, *, matrix: Matrix | None = None,
    progress: Progress | None = None,
) -> Asked:  # fmt: skip
    """Bring a history into the form it is simulated on.

    Its events go into an offline log of its own and its batch views are refreshed as the policy says; from that log
    come the features of every question, as they were known when it was asked.

    Args:
        use_case: whose.
        history: its past.
        access: for reading tables of batch views.
        matrix: the features, if they were computed before.
        progress: is told how much of how many questions' features are done.
    """
    fields = [f.name for f in use_case.request_fields]
    last = history.labels.drop_duplicates("key", keep="last").set_index("key")
    rows = history.requests[["key", "at", *fields]].rename(columns={"key": "prediction_id"})
    label = rows["prediction_id"].map(last["label"])
    known = rows["prediction_id"].map(last["at"])
    rows = rows.assign(label=label, known_at=known).sort_values(["at", *fields, "label"], kind="stable")
    rows = rows.reset_index(drop=True)
    label, known = rows.pop("label"), rows.pop("known_at")
    known_us = np.where(known.isna(), NEVER_US, to_us_array(known.fillna(rows["at"])))
    if matrix is None:
        matrix = _features(use_case, history, rows, access, progress)
    return Asked(
        use_case=use_case, rows=rows, matrix=matrix, at_us=to_us_array(rows["at"]),
        label=label.fillna(-1).to_numpy(dtype=np.int64), known_us=known_us.astype(np.int64),
        trainable=passes_checks(use_case, rows),
        event_us={source: np.sort(to_us_array(frame["at"])) for source, frame in history.events.items()},
    )  # fmt: skip


def _features(
    use_case: UseCase, history: History, rows: pd.DataFrame, access: TableAccess, progress: Progress | None
) -> Matrix:
    with tempfile.TemporaryDirectory(prefix="evergreen-replay-") as folder:
        log, (since, until) = OfflineLog(Path(folder)), span_of(history)
        import_events(log, history)
        refresh_views(log, use_case, since, until, access)
        return point_in_time_matrix(log, use_case, rows, progress=progress)
