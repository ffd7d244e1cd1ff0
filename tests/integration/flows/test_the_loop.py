"""The flows on a real Prefect server, executed by the real worker: drift seen, retrained, promoted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from core.clock import from_us, to_us
from core.discovery import discover
from core.ledger import Entry, Ledger
from core.settings import Settings
from features.definitions import feature_set, view_digest
from features.streams import Keys, Place, encode_events, encode_labels, encode_predictions
from flows.client import FlowResult, run_deployment, wait_for_triggered
from flows.stages import STAGES
from registry.mlflow_registry import MlflowRegistry
from tests.waiting import until

# MLflow's own store, opened in this process, uses a loader that the newest SQLAlchemy calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

START = datetime(2019, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HALF_AN_HOUR_US = 1_800_000_000


class Project:
    """What the test shares with the flows."""

    def __init__(self, name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = name
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        self.settings = Settings()
        self.client = redis.Redis.from_url(self.settings.redis_url)
        self.keys = Keys(self.settings.redis.namespace)
        self.ledger = Ledger(self.settings.ledger_url)
        self.ledger.migrate()
        self.registry = MlflowRegistry(self.settings.mlflow_url)

    def run(self, name: str, moment: datetime) -> FlowResult:
        return run_deployment(
            name,
            {"use_case": self.name, "as_of": moment.isoformat()},
            timeout_s=90,
            api_url=self.settings.prefect_api_url,
        )

    def event(self, name: str) -> dict[str, Any]:
        """An event that Prefect got; it stores events a moment after it accepted them."""
        url, body = f"{self.settings.prefect_api_url}/events/filter", {"filter": {"event": {"name": [name]}}}
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = httpx.post(url, json=body, trust_env=False).raise_for_status().json()["events"]
            return bool(found)

        until(is_there, f"there is no event {name}")
        return found[0]

    def api(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """What Prefect's API finds."""
        url = f"{self.settings.prefect_api_url}/{path}/filter"
        found: list[dict[str, Any]] = httpx.post(url, json=body, trust_env=False).raise_for_status().json()
        return found

    def entries(self, kind: str) -> list[Entry]:
        return self.ledger.entries(self.name, kind=kind)

    @property
    def digest(self) -> str:
        """Of the profile."""
        use_case = discover(self.settings.models_dir)[self.name].use_case
        return view_digest(self.name, feature_set(use_case).batch_views[0])

    def log_days(
        self, first: datetime, days: int, *, version: str, ease: float = 0.0, shift: float = 0.0, weight: float = 0.0
    ) -> None:
        """Write a hundred questions a day with their labels, and the visits that profiles are made of.

        `ease` is how much more easily doors open than the version learnt, in log-odds; `weight` is what was served for
        the profile, which nobody has published: 0 is right.
        """
        rng, n = np.random.default_rng(days), days * 100
        at_us = to_us(first) + np.arange(n) * to_us(from_us(0) + DAY) // 100
        hands = rng.normal(size=(n, 2)) + [shift, 0.0]
        opened = rng.uniform(size=n) < 1 / (1 + np.exp(-ease - 2 * hands[:, 0]))
        matrix = np.c_[hands, np.full(n, weight)].astype(np.float32)
        stored = [f"profile@{self.digest}"] if version else []
        ids = [f"{first:%m%d}-{i}" for i in range(n)]
        answered = encode_predictions(
            use_case=self.name, version=version, known=np.zeros((n, len(stored)), np.int64), known_views=stored,
            now_us=int(at_us[-1]), ids=ids, at_us=at_us, degraded=[[]] * n, matrix=matrix,
            scores=(1 / (1 + np.exp(-2 * matrix[:, 0]))).astype(np.float32),
            instances=[{"door": 1, "push": push, "pull": pull} for push, pull in hands.tolist()],
            columns=("push", "pull", "profile_weight"),
        )  # fmt: skip
        self.client.xadd(self.keys.predictions, answered)
        for i in range(n):
            label = {"prediction_id": ids[i], "label": int(opened[i]), "at_us": int(at_us[i])}
            self.client.xadd(self.keys.labels, encode_labels(self.name, [label], int(at_us[i]) + HALF_AN_HOUR_US))
        visits = [{"id": ids[i], "at_us": int(at_us[i]), "door": 1, "weight": 70.0} for i in range(n)]
        self.client.xadd(self.keys.log(0), encode_events("visits", Place(0, "", True), visits, int(at_us[-1])))


@pytest.fixture
def opened(project: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Project]]:
    """Opens a use case of the project by name."""
    found: list[Project] = []

    def open_project(name: str) -> Project:
        found.append(Project(name, project, monkeypatch))
        return found[-1]

    yield open_project
    for each in found:
        each.client.close()


def test_a_drop_in_performance_becomes_a_promoted_version(
    opened: Callable[[str], Project], worker: subprocess.Popen[bytes]
) -> None:
    door = opened("door_opens")
    door.log_days(START, 20, version="")
    learned = START + 20 * DAY

    first = door.run("retrain/retrain", learned)

    assert first.completed, first.message
    assert door.registry.desired()[door.name].aliases == {"champion": "1", "challenger": "1"}
    assert [entry.action for entry in door.entries("gate")] == ["promote"]
    assert door.entries("data_check")[0].evidence["dropped"] == {"push is not absurd": 0}
    assert door.entries("trigger")[0].actor == "by hand"
    (delivered,) = door.entries("delivery")
    assert (delivered.action, delivered.version) == ("done", "1")
    assert delivered.evidence["flow_run_id"] == first.id
    of_run = {"flow_runs": {"id": {"any_": [first.id]}}}
    tasks = {task["name"].rpartition("-")[0]: task["state"]["type"] for task in door.api("task_runs", of_run)}
    assert tasks == dict.fromkeys(STAGES, "COMPLETED")
    (table,) = door.api("artifacts", of_run)
    assert (table["type"], table["key"]) == ("table", "delivery-door-opens")
    assert [row["stage"] for row in json.loads(table["data"])] == list(STAGES)

    again = door.run("retrain/retrain", learned)

    assert again.completed, again.message
    assert "exactly this data" in door.entries("trigger")[0].reason
    assert len(door.entries("gate")) == len(door.entries("promotion")) == 1

    door.ledger.deploy(
        door.name, expected_generation=0, version="1", previous=None, actor="t", reason="t", as_of=learned
    )
    door.log_days(learned, 3, version="1")
    quiet = door.run("monitor/monitor", learned + 3 * DAY)

    assert quiet.completed, quiet.message
    assert (door.entries("trigger")[0].action, door.entries("trigger")[0].version) == ("wait", "1")
    assert [(entry.action, entry.evidence) for entry in door.entries("audit")] == [("pass", {"rows": 200})]

    door.log_days(learned + 3 * DAY, 10, version="1", ease=3.0, shift=-2.0)
    alarmed = door.run("monitor/monitor", learned + 13 * DAY)
    decision = door.entries("trigger")[0]

    assert alarmed.completed, alarmed.message
    assert (decision.action, decision.evidence["trigger"]) == ("retrain", "performance")
    assert "push" in {found["column"] for found in decision.evidence["facts"]["drift"]["over"]}
    assert (Path(door.settings.home) / "reports" / door.name / "latest.html").stat().st_size > 100_000

    triggered = wait_for_triggered(decision.id, timeout_s=90, api_url=door.settings.prefect_api_url)

    assert triggered.completed, triggered.message
    assert triggered.parameters == {
        "use_case": door.name, "as_of": (learned + 13 * DAY).isoformat(), "decision_id": str(decision.id),
        "reason": f"performance: {decision.reason}",
    }  # fmt: skip
    assert door.registry.alias(door.name, "champion") == "2"
    assert door.entries("gate")[0].evidence["decision_id"] == str(decision.id)

    door.log_days(learned + 13 * DAY, 1, version="1", ease=3.0, shift=-2.0)
    cooling = door.run("monitor/monitor", learned + 14 * DAY)

    assert cooling.completed, cooling.message
    cooled = door.entries("trigger")[0]
    assert (cooled.action, "cooldown" in cooled.reason) == ("wait", True), cooled.reason

    door.ledger.deploy(
        door.name, expected_generation=1, version="2", previous="1", actor="t", reason="t", as_of=learned
    )
    door.log_days(learned + 14 * DAY, 1, version="2", ease=3.0, shift=-2.0, weight=7.0)
    skewed = door.run("monitor/monitor", learned + 15 * DAY)

    assert skewed.completed, skewed.message
    assert door.entries("audit")[0].action == "alarm"
    assert door.entries("audit")[0].evidence["features"]["profile_weight"]["largest_difference"] == 7.0
    event = door.event("evergreen.features.skewed")
    assert event["payload"]["decision_id"] == str(door.entries("audit")[0].id)
    (waiting,) = door.entries("aftermath")
    assert (waiting.action, waiting.version, waiting.evidence["facts"]["previous"]) == ("wait", "2", "1")
    assert waiting.evidence["facts"]["labelled"] > 90
    assert waiting.evidence["facts"]["previous_log_loss"] > 0
    alerts = {entry.evidence["alert"]["cause"]: entry for entry in door.entries("alert")}
    assert {"audit", "retrain/performance"} <= set(alerts)
    assert alerts["audit"].evidence["delivered"] == {"prefect event": True}
    assert door.event("evergreen.alert")["payload"]["command"].startswith("evergreen explain ")

    published = door.run("materialize/materialize", learned)

    assert published.completed, published.message
    assert door.entries("materialize")[0].evidence["rows"] == 1
    assert door.client.get(door.keys.entity(0, door.digest, "1"))


def test_a_retrain_that_cannot_succeed_says_why(
    opened: Callable[[str], Project], worker: subprocess.Popen[bytes]
) -> None:
    window = opened("window_opens")
    window.log_days(START, 2, version="")

    result = window.run("retrain/retrain", START + 2 * DAY)

    assert result.state == "Failed"
    newest = window.entries("trigger")[0]
    assert newest.action == "failed"
    assert "196 labelled rows, at least 800 are needed" in newest.reason
    assert window.ledger.acquire(f"retrain/{window.name}", "test", 5) is not None


def test_only_one_retrain_runs_at_a_time(opened: Callable[[str], Project], worker: subprocess.Popen[bytes]) -> None:
    hatch = opened("hatch_opens")
    hatch.log_days(START, 20, version="")
    token = hatch.ledger.acquire(f"retrain/{hatch.name}", "another", 60)
    assert token is not None

    result = hatch.run("retrain/retrain", START + 20 * DAY)

    assert result.completed, result.message
    assert [(e.action, e.reason) for e in hatch.entries("trigger")] == [("skipped", "a retrain is running")]
    assert hatch.registry.alias(hatch.name, "challenger") is None
