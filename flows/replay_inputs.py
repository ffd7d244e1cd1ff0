"""What a replay works on: read once, kept on disk by what it is made of, and shared by all policies of a process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from core.clock import MICROSECOND
from core.decision import Decision
from core.discovery import UseCaseFile, discover, select
from core.errors import NotEnoughData
from core.policy import Policy
from core.settings import load_settings
from core.use_case import History, UseCase
from features.tables import TableAccess
from flows.replay_training import RegistryGate, Trainings
from monitoring.replay.asked import Asked, ask_all
from monitoring.replay.course import Span
from monitoring.replay.importing import span_of
from monitoring.replay.policies import policies_named
from monitoring.replay.simulation import Windows
from monitoring.replay.versions import Trained

_FORMAT = "1"
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ReplaySpec:
    """What is to be replayed, in plain words, so that any process can make the same of it.

    Args:
        use_case: its name.
        models_dir: folder of the use-case files.
        data_dir: folder of the data sets.
        home: state folder; what was computed is kept under ``replays/``.
        policies: their names, see `monitoring.replay.policies`.
        since: when the first version is trained; None: as the use case's `ReplaySpan` has it, or as soon as there are
            labels enough.
        until: where it ends; None: with the history.
        every: event time between looks; None: `Policy.monitor_every`.
    """

    use_case: str
    models_dir: Path
    data_dir: Path
    home: Path
    policies: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    every: timedelta | None = None


@dataclass(frozen=True)
class ReplayInputs:
    """What every policy is tried on.

    Args:
        declared: the use case.
        asked: everything asked.
        trainings: everything trained, and what trains.
        span: what is simulated.
        policies: to simulate, by name.
        windows: what was measured, shared by all policies.
        verdicts: what the gate said, likewise.
    """

    declared: UseCaseFile
    asked: Asked
    trainings: Trainings
    span: Span
    policies: dict[str, Policy]
    windows: Windows = field(default_factory=Windows)
    verdicts: dict[tuple[str, ...], tuple[Trained, Decision]] = field(default_factory=dict)

    def gate(self, name: str) -> RegistryGate:
        """The gate of one policy; policies share verdicts, for they differ in their triggers alone."""
        return RegistryGate(self.asked, self.policies[name], self.verdicts)


_inputs: dict[ReplaySpec, ReplayInputs] = {}
_lock = threading.Lock()


def inputs_of(spec: ReplaySpec, progress: Callable[[int, int], None] | None = None) -> ReplayInputs:
    """Read and compute what a replay needs, once per process.

    Raises:
        UnknownUseCase: if there is none of that name.
        EvergreenError: for an unknown policy.
        NotEnoughData: if the history has too few labels for a first version, or ends before it.
    """
    with _lock:
        if spec not in _inputs:
            _inputs.clear()  # one is enough to hold
            _inputs[spec] = _read(spec, progress)
        return _inputs[spec]


def _read(spec: ReplaySpec, progress: Callable[[int, int], None] | None) -> ReplayInputs:
    declared = select(discover(spec.models_dir), spec.use_case)
    use_case = declared.use_case
    if spec.every is not None:
        use_case = replace(use_case, policy=replace(use_case.policy, monitor_every=spec.every))
        declared = replace(declared, use_case=use_case)
    return made_of(spec, declared, _until(use_case.history(spec.data_dir), spec.until), progress)


def made_of(
    spec: ReplaySpec,
    declared: UseCaseFile,
    history: History,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayInputs:
    """What a replay of some history works on.

    Args:
        spec: what is to be replayed; of its use case only the policies, folders and moments count.
        declared: the use case.
        history: its past, or any other.
        progress: is told how much of how many questions' features are done.
    """
    use_case = declared.use_case
    policies = policies_named(spec.policies, use_case.policy)
    key = history_key(declared, history)
    folder = spec.home / "replays" / use_case.name
    stored = folder / f"{key}.npy"
    databases = {name: url.get_secret_value() for name, url in load_settings().databases.items()}
    matrix = np.load(stored, allow_pickle=False) if stored.exists() else None
    asked = ask_all(use_case, history, TableAccess(spec.data_dir, databases), matrix=matrix, progress=progress)
    if matrix is None:
        _store(stored, asked)
    trainings = Trainings(declared, asked, key, folder / "fits")
    return ReplayInputs(declared, asked, trainings, _span(spec, use_case, history, asked), policies)


def history_key(declared: UseCaseFile, history: History) -> str:
    """Names a history and what features are made of it by their content."""
    digest = hashlib.sha256(f"{_FORMAT} {declared.digest} {declared.use_case.policy.materialize_every}".encode())
    for frame in (history.requests, history.labels, *(history.events[name] for name in sorted(history.events))):
        digest.update(",".join(map(str, frame.columns)).encode())
        digest.update(np.ascontiguousarray(pd.util.hash_pandas_object(frame, index=False).to_numpy()).tobytes())
    return digest.hexdigest()[:32]


def _until(history: History, until: datetime | None) -> History:
    if until is None:
        return history
    end = pd.Timestamp(until)
    return History(
        history.requests[history.requests["at"] < end],
        history.labels[history.labels["at"] < end],
        {source: frame[frame["at"] < end] for source, frame in history.events.items()},
    )


def _span(spec: ReplaySpec, use_case: UseCase, history: History, asked: Asked) -> Span:
    first, last = span_of(history)
    start = spec.since or (use_case.replay.first_training if use_case.replay else _first_training(asked, first, last))
    if not start < last:
        raise NotEnoughData(use_case.name, 0, 1, f"questions after {start:%Y-%m-%d}, when the first version is trained")
    return Span(start=start, end=last + MICROSECOND, every=use_case.policy.monitor_every)


def _first_training(asked: Asked, first: datetime, last: datetime) -> datetime:
    """The first midnight by which there are labels enough."""
    policy, moment = asked.use_case.policy, first.replace(hour=0, minute=0, second=0, microsecond=0)
    needed = max(policy.min_rows, policy.holdout_rows + 2)
    while moment < last:
        moment += _DAY
        if len(asked.training_rows(moment - policy.training_window, moment)) >= needed:
            return moment
    raise NotEnoughData(asked.use_case.name, int((asked.label >= 0).sum()), needed, "labelled rows within one window")


def _store(path: Path, asked: Asked) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part.npy")
    np.save(fresh, asked.matrix)
    fresh.replace(path)
