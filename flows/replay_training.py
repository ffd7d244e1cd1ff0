"""Training and judging in a replay, by the registry's own functions; what was trained is kept by what it is made of."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from core.decision import Decision
from core.discovery import UseCaseFile
from core.errors import NotEnoughData
from core.policy import Policy
from core.policy_json import policy_as_json
from features.segments import segment_values
from flows.references import asked_in, profile_training
from monitoring.live import LiveVersion
from monitoring.replay.asked import Asked
from monitoring.replay.versions import Trained
from registry.comparison import VERDICTS, build_candidates
from registry.gate import HoldoutScores, judge
from registry.scorer import OnnxScorer
from registry.selection import before, since
from registry.version_folder import REFERENCE_ROWS

_FORMAT = "2"
Ints = npt.NDArray[np.int64]


class Trainings:
    """Trains on what was known at a moment, once for all policies, and on disk for the next replay.

    Args:
        declared: the use case; of its policy everything but the trigger counts.
        asked: everything asked.
        history_key: names the history, as content.
        folder: where fits are kept.
    """

    def __init__(self, declared: UseCaseFile, asked: Asked, history_key: str, folder: Path) -> None:
        self._declared, self._asked, self._folder = declared, asked, folder
        self._policy = declared.use_case.policy
        how = {k: v for k, v in policy_as_json(declared.use_case.policy).items() if k in _OF_A_FIT}
        self._key = _digest(_FORMAT, history_key, declared.digest, orjson.dumps(how, option=orjson.OPT_SORT_KEYS))
        self._locks: dict[datetime, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._known: dict[datetime, tuple[Trained, ...]] = {}

    def train(self, moment: datetime) -> tuple[Trained, ...]:
        """See `monitoring.replay.versions.Trainer`."""
        with self._guard:
            lock = self._locks[moment]
        with lock:
            if moment not in self._known:
                self._known[moment] = self._read_or_fit(moment)
            return self._known[moment]

    @property
    def all(self) -> tuple[Trained, ...]:
        """Everything trained so far, by moment."""
        return tuple(each for moment in sorted(self._known) for each in self._known[moment])

    def _read_or_fit(self, moment: datetime) -> tuple[Trained, ...]:
        path = self._folder / f"{_digest(self._key, moment.isoformat())}.npz"
        found = _read(path)
        if found is None:
            found = self._fit(moment)
            _write(path, found)
        return tuple(self._trained(moment, found, i) for i in range(len(found["log_loss"])))

    def _fit(self, moment: datetime) -> dict[str, npt.NDArray[Any]]:
        """Everything that is worth keeping of the candidates of one moment."""
        rows, candidates, compute_s = self._rows(moment), [], 0.0
        try:
            with on_one_thread():
                began = time.thread_time()
                training = self._asked.training_set(rows)
                candidates = build_candidates(self._declared, training, moment, lambda: None)
                compute_s = time.thread_time() - began
        except NotEnoughData:
            pass
        first = self._first_scored(moment)
        return {
            "rows": rows, "first": np.array(first), "compute_s": np.array(compute_s),
            "log_loss": np.array([each.profile["log_loss"] for each in candidates]),
            "auc": np.array([each.profile["auc"] for each in candidates], dtype=np.float64),
            "selection": np.array([each.profile["selection"]["name"] for each in candidates], dtype=np.str_),
            "scores": np.array([OnnxScorer(each.onnx).score(self._asked.matrix[first:]) for each in candidates]),
        }  # fmt: skip

    def _rows(self, moment: datetime) -> Ints:
        """What the widest selection trains on, and the holdout."""
        return self._asked.training_rows(since(self._policy.trains_on, moment), moment)

    def _first_scored(self, moment: datetime) -> int:
        """The first row of which anybody asks what a version trained at a moment answers: one of its old regime."""
        old = before(self._policy, moment)
        return 0 if old is None else self._asked.between(old[0], moment).start

    def _trained(self, moment: datetime, found: Mapping[str, npt.NDArray[Any]], i: int) -> Trained:
        rows, n = found["rows"], len(found["log_loss"])
        holdout = rows[-self._policy.holdout_rows :]
        scores = np.full(len(self._asked), np.nan, dtype=np.float32)
        scores[int(found["first"]) :] = found["scores"][i]
        selection = str(found["selection"][i])
        version = f"{moment:%Y-%m-%dT%H:%M}" + (f", {selection}" if n > 1 else "")
        log_loss, auc = float(found["log_loss"][i]), float(found["auc"][i])

        @cache
        def make_live() -> LiveVersion:
            training = self._asked.training_set(rows)
            pauses_s = self._asked.pauses_s(*asked_in(training))
            return LiveVersion(
                version, moment, log_loss, _reference(self._asked, scores, holdout[-REFERENCE_ROWS:]), len(holdout),
                profile_training(self._declared.use_case, training, scores[holdout], pauses_s=pauses_s),
            )  # fmt: skip

        return Trained(
            version=version, as_of=moment, log_loss=log_loss, auc=None if np.isnan(auc) else auc, scores=scores,
            holdout=holdout, compute_s=float(found["compute_s"]) / n, training_rows=rows, make_live=make_live,
        )  # fmt: skip


_OF_A_FIT = ("training_window", "holdout_rows", "min_rows", "materialize_every", "selections")


@dataclass(frozen=True)
class RegistryGate:
    """Judges as a retrain does.

    Args:
        asked: everything asked.
        policy: the use case's.
        known: verdicts there are, which policies may share that differ in their triggers alone.
    """

    asked: Asked
    policy: Policy
    known: dict[tuple[str, ...], tuple[Trained, Decision]] = field(default_factory=dict)

    def judge(self, challengers: tuple[Trained, ...], champion: Trained | None) -> tuple[Trained, Decision]:
        """See `monitoring.replay.versions.Gate`."""
        key = (champion.version if champion else "", *(each.version for each in challengers))
        if key not in self.known:
            judged = [(each, self._judge(each, champion, len(challengers))) for each in challengers]
            self.known[key] = min(judged, key=lambda each: (VERDICTS.index(each[1].action), each[0].log_loss))
        return self.known[key]

    def _judge(self, challenger: Trained, champion: Trained | None, tried: int) -> Decision:
        asked, rows = self.asked, challenger.holdout
        matrix, columns = asked.matrix[rows], asked.use_case.features.columns
        old = self._old_rows(challenger) if champion is not None else rows[:0]
        return judge(
            _answers(asked, challenger, rows),
            None if champion is None else _answers(asked, champion, rows),
            self.policy,
            segments=segment_values(asked.use_case, asked.rows.iloc[rows], pd.DataFrame(matrix, columns=list(columns))),
            features={name: matrix[:, i] for i, name in enumerate(columns)},
            old_regime=(_answers(asked, challenger, old), _answers(asked, champion, old))
            if champion and len(old)
            else None,
            tried=tried,
        )

    def _old_rows(self, challenger: Trained) -> Ints:
        old = before(self.policy, challenger.as_of)
        rows = challenger.training_rows[:0] if old is None else self.asked.training_rows(*old)
        return rows[-self.policy.holdout_rows :]


def _answers(asked: Asked, version: Trained, rows: Ints) -> HoldoutScores:
    return HoldoutScores(asked.label[rows], version.scores[rows], version.version, version.log_loss, version.auc)


def _reference(asked: Asked, scores: npt.NDArray[np.float32], rows: Ints) -> pd.DataFrame:
    """As `registry.version_folder` writes it."""
    frame = pd.DataFrame(asked.matrix[rows], columns=list(asked.use_case.features.columns))
    return frame.assign(score=scores[rows], label=asked.label[rows], at=asked.rows["at"].to_numpy()[rows])


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Keep numerical libraries to one thread, so that replays side by side do not get into each other's way."""
    import sklearn.ensemble  # noqa: F401 - its thread pool must be there to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _read(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def _write(path: Path, found: Mapping[str, npt.NDArray[Any]]) -> None:
    """Whole or not at all: another replay may read it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, allow_pickle=False, **found)
    Path(fresh).replace(path)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:32]
