"""A retrain delivers in stages that are all on record, once, and says which of them failed and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.decision import Decision
from core.discovery import UseCaseFile, load_use_case
from core.errors import DataError
from core.ledger import Entry, Ledger
from core.model_tests import Minimum
from core.serving_policy import Serving
from core.settings import Settings
from features.offline.log import OfflineLog, stamp
from flows import retrain, steps
from flows.stages import STAGES
from flows.versions import champion
from registry.artifact_scan import ArtifactRefused
from registry.versions import MemoryRegistry

ROOT = Path(__file__).resolve().parents[3]
NAME = "door_opens"
START = datetime(2019, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
START_US = 1_546_300_800_000_000
STAGE_TASKS = (
    "data_checks", "train", "model_tests", "parity", "scan", "staging", "gate", "register", "rollout", "promotion",
    "watch",
)  # fmt: skip


class Plain:
    """A stage without Prefect around it."""

    def __init__(self, task: Any) -> None:
        self.name, self._function = task.name, task.fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


@pytest.fixture
def declared() -> UseCaseFile:
    return load_use_case(ROOT / "tests" / "integration" / "flows" / "door_opens.py")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Twenty days in which doors open by one rule and twenty by another; a registry, a ledger, and no model host."""
    monkeypatch.setattr(retrain, "get_run_logger", lambda: logging.getLogger("retrain"))
    monkeypatch.setattr(retrain, "create_table_artifact", lambda table, **_: None)
    for name in STAGE_TASKS:
        monkeypatch.setattr(steps, name, Plain(getattr(steps, name)))
    log, n = OfflineLog(tmp_path / "offline"), 4000
    rng, at_us = np.random.default_rng(0), START_US + np.arange(n) * DAY_US // 100
    push, ease = rng.normal(size=n), np.where(np.arange(n) < n // 2, -0.6, 0.6)
    opened = rng.uniform(size=n) < 1 / (1 + np.exp(-2 * push - ease))
    at, ids = stamp(at_us), [f"q{i}" for i in range(n)]
    known = stamp(at_us + 1_800_000_000)
    asked = pd.DataFrame({
        "prediction_id": ids, "at": at, "known_at": at, "position": np.arange(1, n + 1), "version": "",
        "score": np.float32("nan"), "degraded": False, "door": 1, "push": push, "pull": rng.normal(size=n),
    })  # fmt: skip
    log.write("predictions", n, {f"predictions/{NAME}": asked})
    labels = pd.DataFrame({"prediction_id": ids, "label": opened.astype("int8"), "at": known, "known_at": known})
    log.write("labels", n, {f"labels/{NAME}": labels.assign(position=np.arange(1, n + 1))})
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield SimpleNamespace(
            log=log, ledger=ledger, registry=MemoryRegistry(tmp_path / "registry"),
            settings=Settings(home=tmp_path / "home"), moment=lambda name, as_of: datetime.fromisoformat(as_of),
        )  # fmt: skip


def deliver(context: Any, declared: UseCaseFile, day: int, decision_id: str | None = None) -> str:
    moment = (START + timedelta(days=day)).isoformat()
    return retrain.retrain_one(context, declared, moment, "a test", decision_id)


def newest(context: Any, kind: str = "delivery") -> Entry:
    found: Entry = context.ledger.entries(NAME, kind=kind, limit=1)[0]
    return found


def statuses(context: Any) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in newest(context).evidence["stages"]}


def test_versions_are_delivered_in_stages_and_their_cards_say_what_changed(
    context: Any, declared: UseCaseFile
) -> None:  # fmt: skip
    deliver(context, declared, 20)

    first = newest(context)
    assert (first.action, first.version) == ("done", "1")
    assert [stage["name"] for stage in first.evidence["stages"]] == list(STAGES)
    done = statuses(context)
    assert [name for name, status in done.items() if status == "skipped"] == ["staging", "rollout"]
    assert newest(context, "gate").evidence["digest"] == context.registry.info(NAME, "1").digest
    assert first.evidence["decision_id"] == newest(context, "trigger").evidence.get("decision_id", "1")
    assert first.evidence["fit_s"] > 0

    deliver(context, declared, 40, decision_id="77")

    second = newest(context)
    assert (second.action, second.version, second.evidence["decision_id"]) == ("done", "2", "77")
    assert context.registry.desired()[NAME].aliases == {"champion": "2", "challenger": "2"}
    assert {stage["name"]: stage["says"] for stage in second.evidence["stages"]}["staging"].startswith("TorchServe")
    card = context.registry.info(NAME, "2").description
    assert len(card) <= 5000
    for said in (
        "**Promoted.**", "| champion 1 |", "## Changed against champion 1", "(champion: 1,69",
        "## Model tests", "learns 64 rows by heart", "get-artifact?path=plots/drift.png&run_uuid=RUN-ID", "## Lineage",
        f"evergreen promote {NAME}", "`model.onnx`", newest(context, "gate").evidence["digest"],
    ):  # fmt: skip
        assert said in card, card
    folder = context.registry.folder(NAME, "2")
    assert {"drift.png", "gate.html"} <= {path.name for path in (folder / "plots").iterdir()}

    assert "decision 77 was delivered" in deliver(context, declared, 40, decision_id="77")
    assert newest(context).action == "skipped" and set(statuses(context).values()) == {"skipped"}
    assert "exactly this data" in deliver(context, declared, 40)
    assert newest(context).action == "skipped" and newest(context).version == "2"
    assert len(context.ledger.entries(NAME, kind="promotion")) == 2


def test_a_version_that_fails_a_required_test_is_registered_as_rejected(context: Any, declared: UseCaseFile) -> None:
    strict = replace(declared.use_case, tests=(Minimum(metric="auc", value=0.999),))

    deliver(context, replace(declared, use_case=strict), 20)

    gate = newest(context, "gate")
    assert gate.action == "reject" and "auc ≥ 0.999: it is 0." in gate.reason
    assert context.registry.desired()[NAME].aliases == {"challenger": "1"}
    assert newest(context).action == "done" and statuses(context)["promote"] == "skipped"
    assert "Rejected" in context.registry.info(NAME, "1").description


@pytest.mark.slow
def test_a_version_that_is_held_is_not_what_others_are_judged_against(context: Any, declared: UseCaseFile) -> None:
    deliver(context, declared, 20)
    deliver(context, declared, 22)
    at = START + timedelta(days=23)
    context.ledger.deploy(
        NAME, expected_generation=0, version="1", previous=None, actor="deployer", reason="", as_of=at
    )
    context.registry.set_alias(NAME, "champion", "2")
    assert champion(context, NAME) == "2"
    context.ledger.record(NAME, "promotion", Decision("hold", "waits"), actor="deployer", as_of=at, version="2")
    assert champion(context, NAME) == "1"

    deliver(context, declared, 30)
    assert newest(context, "gate").evidence["champion"]["version"] == "1"


@pytest.mark.slow
def test_a_use_case_may_let_its_versions_begin_as_canaries(context: Any, declared: UseCaseFile) -> None:
    careful = replace(declared, use_case=replace(declared.use_case, serving=Serving(start="canary", start_percent=5)))

    deliver(context, careful, 20)
    deliver(context, careful, 40)

    assert context.registry.desired()[NAME].aliases == {"champion": "1", "canary": "2", "challenger": "2"}
    stages = {stage["name"]: stage for stage in newest(context).evidence["stages"]}
    assert stages["rollout"]["status"] == "done" and "canary with 5 %" in stages["rollout"]["says"]
    assert stages["promote"]["status"] == "skipped" and "the monitor promotes it" in stages["promote"]["says"]
    assert stages["watch"]["status"] == "done"


def test_a_failure_names_its_stage_its_cause_and_what_to_do(context: Any, declared: UseCaseFile) -> None:
    with pytest.raises(Exception, match="196 labelled rows"):
        deliver(context, declared, 2)

    entry = newest(context)
    assert entry.action == "failed" and entry.reason.startswith("data_checks: NotEnoughData: ")
    assert "Wait for more labels" in entry.reason and entry.evidence["remedy"].startswith(f"evergreen retrain {NAME}")
    assert statuses(context)["data_checks"] == "failed" and statuses(context)["register"] == "skipped"
    assert newest(context, "trigger").action == "failed"


def test_an_artifact_with_more_in_it_is_not_registered(
    context: Any, declared: UseCaseFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = steps.write_version_folder

    def smuggle(candidate: Any, folder: Path, **how: Any) -> Any:
        info = write(candidate, folder, **how)
        (folder / "handler.py").write_text("raise SystemExit")
        return info

    monkeypatch.setattr(steps, "write_version_folder", smuggle)
    with pytest.raises(ArtifactRefused, match=r"handler\.py is not listed"):
        deliver(context, declared, 20)

    assert newest(context).reason.startswith("scan: ArtifactRefused: ")
    assert context.registry.desired() == {}


def test_a_failure_between_stages_is_on_record_too(
    context: Any, declared: UseCaseFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise DataError("the ledger is away")

    monkeypatch.setattr(retrain, "trained_before", away)
    with pytest.raises(DataError):
        deliver(context, declared, 20)

    assert (newest(context).action, newest(context).reason) == ("failed", "DataError: the ledger is away")
    assert json.dumps(dict(newest(context).evidence))
