"""The flow that watches in production and the replay come to the same decisions on the same past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.decision import Decision
from core.ledger import Ledger
from core.triggers import AnyOf, Drift, NewLabels, PerformanceDrop, Schedule, WorthIt
from features.offline.log import OfflineLog
from features.tables import TableAccess
from flows import monitor
from flows.replay_training import RegistryGate, Trainings
from monitoring.live import LiveVersion
from monitoring.profile_json import FILE, dump_profile
from monitoring.replay.asked import Asked, ask_all
from monitoring.replay.course import Course, Span, Step
from monitoring.replay.importing import import_events
from monitoring.replay.simulation import Simulation
from monitoring.triggers import redecide
from tests.replayed_use_case import DAY, POLICY, START, history, replayed

TRIGGER = AnyOf((PerformanceDrop(0.2), Drift(), NewLabels(1500), WorthIt(1.0), Schedule(25 * DAY)))
PAST = history(days=55)
# some labels come days after their horizon, and correct windows that had ended
PAST.labels.loc[PAST.labels.index % 40 == 7, "at"] += pd.Timedelta(6, "D")
# and the source stops a day before the last look
PAST.events["sales"] = PAST.events["sales"][PAST.events["sales"]["at"] < pd.Timestamp(START + 49 * DAY)]
DECLARED = replayed(PAST, replace(POLICY, trigger=TRIGGER))
SPAN = Span(start=START + 10 * DAY, end=START + 55 * DAY, every=5 * DAY)
COST_S = 0.5


class Fixed(Trainings):
    """Trains, at a cost that does not change from run to run."""

    def train(self, moment: Any) -> Any:
        return tuple(replace(each, compute_s=COST_S) for each in super().train(moment))


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> tuple[Asked, Fixed, Course]:
    use_case = DECLARED.use_case
    asked = ask_all(use_case, PAST, TableAccess(Path(), {}))
    trainings = Fixed(DECLARED, asked, "past", tmp_path_factory.mktemp("fits"))
    gate = RegistryGate(asked, use_case.policy)
    return asked, trainings, Simulation(asked, "own", use_case.policy, trainings, gate).run(SPAN)


class Registry:
    """Versions as the registry keeps them: files in a folder."""

    def __init__(self, root: Path, versions: dict[str, LiveVersion]) -> None:
        self._root, self._versions = root, versions

    def info(self, use_case: str, version: str) -> Any:
        found = self._versions[version]
        return SimpleNamespace(as_of=found.trained_at, log_loss=found.log_loss)

    def fetch(self, use_case: str, version: str, folder: Path) -> Path:
        found = self._versions[version]
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pandas(found.reference, preserve_index=False), folder / "reference.parquet")
        (folder / "profile.json").write_text(json.dumps({"rows": found.holdout_rows}))
        assert found.profile is not None
        (folder / FILE).write_bytes(dump_profile(found.profile))
        return folder


@pytest.fixture
def context(tmp_path: Path, replay: tuple[Asked, Fixed, Course]) -> Iterator[Any]:
    """A context whose log holds all that was asked in the replay, answered by the versions of the replay."""
    asked, trainings, course = replay
    log = OfflineLog(tmp_path / "offline")
    import_events(log, PAST)
    rows, position = asked.rows, np.arange(1, len(asked) + 1, dtype=np.int64)
    features = {f"f__{name}": asked.matrix[:, i] for i, name in enumerate(DECLARED.use_case.features.columns)}
    predictions = rows.assign(
        known_at=rows["at"], position=position, version=_champions(asked, course), score=course.scores, degraded=False,
        **features,
    )  # fmt: skip
    known = pd.Series(asked.known_us.astype("datetime64[us]")).dt.tz_localize("UTC")
    labels = rows[["prediction_id"]].assign(
        label=asked.label.astype("int8"), at=known, known_at=known, position=position
    )
    log.write("predictions", len(rows), {f"predictions/{DECLARED.use_case.name}": predictions})
    log.write("labels", len(rows), {f"labels/{DECLARED.use_case.name}": labels})
    with closing(Ledger("sqlite://")) as ledger:
        ledger.migrate()
        live = {each.version: each.make_live() for each in trainings.all}
        yield SimpleNamespace(
            ledger=ledger, log=log, registry=Registry(tmp_path, live), settings=SimpleNamespace(home=tmp_path / "home")
        )


def _champions(asked: Asked, course: Course) -> Any:
    found = np.full(len(asked), "", dtype=object)
    bounds = [SPAN.start, *(step.at for step in course.steps), SPAN.end]
    champions = [f"{SPAN.start:%Y-%m-%dT%H:%M}", *(step.champion for step in course.steps)]
    for since, until, champion in zip(bounds[:-1], bounds[1:], champions, strict=True):
        found[asked.between(since, until)] = champion
    return found


@pytest.mark.slow
def test_production_and_replay_decide_alike(
    context: Any, replay: tuple[Asked, Fixed, Course], monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[Any] = []
    monkeypatch.setattr(monitor, "request_retrain", lambda _, name, moment, *__: requested.append(moment))
    monkeypatch.setattr(monitor, "keep_page", lambda *_, **__: None)
    use_case, (_, _, course) = DECLARED.use_case, replay
    ledger, champion = context.ledger, f"{SPAN.start:%Y-%m-%dT%H:%M}"
    _trained(ledger, use_case.name, SPAN.start, "promote")
    _deployed(ledger, use_case.name, champion, SPAN.start)

    for step in course.steps:
        decision = monitor.watch(context, use_case, step.at)

        assert (decision.action, decision.reason) == (step.decision.action, step.decision.reason)
        assert decision.evidence == step.decision.evidence
        (entry,) = ledger.entries(use_case.name, kind="trigger", limit=1)
        assert redecide(entry.evidence) == decision
        if step.verdict is not None:
            _trained(ledger, use_case.name, step.at, step.verdict.action, entry.id)
        if step.champion != champion:
            champion = step.champion
            _deployed(ledger, use_case.name, champion, step.at)

    assert requested == [step.at for step in course.steps if step.verdict is not None]
    actions = {step.decision.action for step in course.steps}
    assert actions == {"wait", "retrain", "alarm"}, "a past on which only one thing is decided proves little"
    assert [(step.at, fault["column"], fault["kind"]) for step in course.steps for fault in _faults(step)] == [
        (START + 50 * DAY, "sales", "stale source")
    ], "a source that stopped is told, and nothing is trained on what is made of it"
    first, last = (step.decision.evidence["curve"] for step in (course.steps[0], course.steps[-1]))
    assert last[0]["labelled"] > first[0]["labelled"], "late labels were counted where their questions were asked"


def _faults(step: Step) -> list[dict[str, str]]:
    faults: list[dict[str, str]] = step.decision.evidence.get("faults", [])
    return faults


def _trained(ledger: Ledger, name: str, moment: Any, action: str, decision_id: int = 0) -> None:
    evidence = {"compute_s": COST_S, "decision_id": str(decision_id)}
    ledger.record(name, "gate", Decision(action, "", evidence), actor="test", as_of=moment)


def _deployed(ledger: Ledger, name: str, version: str, moment: Any) -> None:
    generation = len(ledger.deployments(name))
    ledger.deploy(
        name, expected_generation=generation, version=version, previous=None, actor="test", reason="", as_of=moment
    )
