"""Training a version in memory, of the newest part of a history, before anything is started."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from core.clock import as_utc
from core.discovery import UseCaseFile
from core.use_case import History
from features.offline.log import OfflineLog
from features.offline.training import build_training_set
from registry.candidate import Candidate, build_candidate
from stack.scaffold.errors import TableError


@dataclass(frozen=True)
class Trial:
    """What a first version would be like.

    Args:
        candidate: as trained, with its proven ONNX graph.
        trained_rows: labelled rows it was fitted on.
        judged_rows: newest labelled rows it was judged on.
        log_loss: on these.
        base_rate_log_loss: of always answering their share of ones.
        auc: on these; None if they have one label only.
    """

    candidate: Candidate
    trained_rows: int
    judged_rows: int
    log_loss: float
    base_rate_log_loss: float
    auc: float | None

    @property
    def gain(self) -> float:
        """Share of the base rate's log-loss that it saves; below 0 if it is worse."""
        return 1 - self.log_loss / self.base_rate_log_loss if self.base_rate_log_loss else 0.0


def try_out(loaded: UseCaseFile, history: History) -> Trial:
    """Train on the questions that the replay trains its first version on.

    Raises:
        TableError: if the use case declares no replay.
        TrainingError: if no version can be made of them.
    """
    span = loaded.use_case.replay
    if span is None:
        raise TableError(f"{loaded.use_case.name} declares no replay.", "Give it replay=ReplaySpan(start=…, …).")
    with tempfile.TemporaryDirectory() as folder:
        log = OfflineLog(Path(folder))
        use_case = loaded.use_case
        inside = (history.requests["at"] > span.start) & (history.requests["at"] <= span.first_training)
        requests = history.requests[inside]
        labels = history.labels[history.labels["key"].isin(requests["key"])]
        position, tables = 1, {}
        for source, events in history.events.items():
            part = events[(events["at"] > span.start) & (events["at"] <= span.first_training)]
            places = np.arange(position, position + len(part))
            position += len(part)
            tables[f"events/{source}"] = part.assign(known_at=part["at"], position=places, row=0)
        log.write("log-0", position, tables)
        asked = requests.rename(columns={"key": "prediction_id"}).assign(
            known_at=requests["at"], version="", score=np.nan, degraded=False, position=1
        )
        log.write("predictions", 1, {f"predictions/{use_case.name}": asked})
        known = labels.rename(columns={"key": "prediction_id"}).assign(known_at=labels["at"], position=1)
        log.write("labels", 1, {f"labels/{use_case.name}": known})
        training = build_training_set(log, use_case, as_of=as_utc(span.first_training), since=as_utc(span.start))
    with threadpool_limits(1):  # a few thousand rows: threads would mostly wait for each other
        candidate = build_candidate(loaded, training)
    found = candidate.profile
    return Trial(
        candidate, int(found["training"]["rows"]), int(found["rows"]), float(found["log_loss"]),
        float(found["base_rate_log_loss"]), found["auc"],
    )  # fmt: skip
