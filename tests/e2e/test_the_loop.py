"""The loop on the live stack: exact features, versions that follow the alias, nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis
from mlflow import MlflowClient

from core.clock import SystemClock
from core.ledger import Ledger
from features.offline.audit import audit_features
from features.offline.log import OfflineLog
from features.offline.training import build_training_set
from features.streaming.rebuild import digest, rebuild
from features.streaming.worker import settle
from features.streams import Keys
from registry.mlflow_registry import MlflowRegistry
from registry.version_folder import load_version
from registry.versions import FORCE_TAG
from serving.promoting import Promotions
from stack import cli
from stack.drill.drill import Plan, drill
from stack.drill.scene import Scene
from stack.drill.switches import Rollback
from stack.environment import settings_environment
from tests.chromium import opened_page, running_chromium
from tests.e2e.conftest import END, FIRST_TRAINING, Live, run
from tests.mlflow_page import VersionPage


@pytest.fixture
def client(live: Live) -> redis.Redis:
    return redis.Redis.from_url(live.settings.redis_url)


@pytest.fixture
def log(live: Live, client: redis.Redis) -> OfflineLog:
    settle(client, Keys(live.settings.redis.namespace))
    return OfflineLog(live.settings.offline_dir)


def test_the_replay_had_no_failed_request(live: Live) -> None:
    assert live.result.record.failed == []
    assert live.result.record.predictions > 1500
    assert live.result.retrains[0].reason == "first"


def test_served_features_equal_the_offline_join_exactly(live: Live, log: OfflineLog) -> None:
    report = audit_features(log, live.use_case, rows=1000, until=END)
    assert report.rows == 1000
    assert report.is_clean, report


def test_every_prediction_and_label_is_in_the_log_once(live: Live, log: OfflineLog) -> None:
    record = live.result.record
    served = log.predictions("taxi_tip", since=FIRST_TRAINING, until=END)
    served = served[served["version"] != ""]
    answered = {prediction_id: score for prediction_id, score, _ in record.answers.values()}
    logged = dict(zip(served["prediction_id"], served["score"], strict=True))
    assert set(answered) <= set(logged)
    assert all(abs(logged[i] - score) < 1e-6 for i, score in answered.items())
    labelled = log.labels("taxi_tip", since=FIRST_TRAINING)
    keys = set(live.result.record.answers)
    history = live.use_case.history(live.settings.data_dir).labels
    due = history[(history["at"] <= END) & history["key"].isin(keys)]
    assert len(labelled[~labelled["prediction_id"].str.startswith("import-")]) == len(due)


def test_online_features_are_rebuilt_to_the_same_digest(live: Live, client: redis.Redis, log: OfflineLog) -> None:
    keys = Keys(live.settings.redis.namespace)
    before = digest(client, keys)
    rebuild(client, keys, log, {"taxi_tip": live.use_case}, expire=False)
    assert digest(client, keys) == before


def test_a_version_carries_its_lineage(live: Live, log: OfflineLog, tmp_path: Path) -> None:
    registry = MlflowRegistry(live.settings.mlflow_url)
    info = registry.info("taxi_tip", live.first_version)
    since = FIRST_TRAINING - live.use_case.policy.training_window
    training = build_training_set(log, live.use_case, as_of=FIRST_TRAINING, since=since)
    assert info.fingerprint == training.fingerprint, "the log gives another training set than it gave then"
    version = load_version(registry.fetch("taxi_tip", live.first_version, tmp_path / "v"), digest=info.digest)
    assert version.scorer.score(training.X[:5]).shape == (5,)
    kinds = {entry.kind for entry in Ledger(live.settings.ledger_url).entries("taxi_tip")}
    assert {"trigger", "data_check", "gate", "promotion", "deployment", "materialize"} <= kinds


def test_moving_the_alias_changes_what_answers_without_a_failed_request(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = MlflowRegistry(live.settings.mlflow_url)
    client = MlflowClient(live.settings.mlflow_url)  # whatever the gate said: this is about the switch
    client.set_model_version_tag("taxi_tip", live.second_version, FORCE_TAG, "moved by hand in a test")

    def move(version: str) -> None:
        registry.set_alias("taxi_tip", "champion", version)

    for version in (live.second_version, live.first_version):
        seconds, failures, versions = run(_watch_switch(live, version, lambda v=version: move(v)))  # type: ignore[misc]
        assert failures == []
        assert seconds <= 15
        with capsys.disabled():
            sys.stdout.write(f"\n  alias moved, until REST answers from version {version}: {seconds:.2f} s")
        assert versions[-1] == version
        assert versions == sorted(versions, key=lambda v: v == version), "the old version answered after the new one"


async def _watch_switch(live: Live, version: str, move: object) -> tuple[float, list[str], list[str]]:
    """Send predictions without a pause while the alias moves; stop a little after the new version answers."""
    body = orjson.dumps({"instances": [live.instance()]})
    headers = {"X-Evergreen-Now": END.isoformat(), "Content-Type": "application/json"}
    url = f"{live.settings.gateway_url}/v1/models/taxi_tip/predict"
    failures: list[str] = []
    versions: list[str] = []
    async with aiohttp.ClientSession() as session:

        async def ask() -> None:
            async with session.post(url, data=body, headers=headers) as answer:
                if answer.status == 200:
                    versions.append((await answer.json())["model_version"])
                else:
                    failures.append(await answer.text())

        await ask()
        began = time.monotonic()
        await asyncio.to_thread(move)  # type: ignore[arg-type]
        while versions[-1] != version and time.monotonic() - began < 60:
            await ask()
        seconds = time.monotonic() - began
        for _ in range(200):
            await ask()
    return seconds, failures, versions


def test_a_retrain_is_not_done_twice(live: Live) -> None:
    from stack.replay import PrefectOrchestrator

    ledger = Ledger(live.settings.ledger_url)
    gates = len(ledger.entries("taxi_tip", kind="gate"))
    again = {"use_case": "taxi_tip", "as_of": END.isoformat(), "reason": "the same once more"}
    PrefectOrchestrator(live.settings).run("retrain/retrain", again)
    assert len(ledger.entries("taxi_tip", kind="gate")) == gates
    newest = ledger.entries("taxi_tip", kind="trigger", limit=1)[0]
    assert newest.action == "skipped"
    assert "exactly this data" in newest.reason


def test_moments_are_event_time(live: Live) -> None:
    deployed = Ledger(live.settings.ledger_url).deployments("taxi_tip")
    assert min(d.as_of for d in deployed) == FIRST_TRAINING
    assert all(isinstance(d.deployed_at, datetime) for d in deployed)


def _answering(live: Live, version: str) -> float:
    """Ask until a version answers; seconds it took."""
    began_s = time.monotonic()
    while (answer := live.predict(live.instance())).json()["model_version"] != version:
        assert answer.status_code == 200, answer.text
        assert time.monotonic() < began_s + 30, f"version {version} does not answer"
    return time.monotonic() - began_s


def _make_both_champions(live: Live) -> tuple[str, str]:
    """Let the second version answer, whatever the gate said of it; the first has, so both may again."""
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        if live.second_version not in {deployment.version for deployment in ledger.deployments("taxi_tip")}:
            promotions = Promotions(MlflowRegistry(live.settings.mlflow_url), ledger, SystemClock())
            promotions.promote("taxi_tip", live.second_version, actor="test", reason="to have two", force=True)
            _answering(live, live.second_version)
        answers = live.predict(live.instance()).json()["model_version"]
    return answers, next(v for v in (live.first_version, live.second_version) if v != answers)


def test_an_alias_moved_by_mouse_in_mlflow_changes_what_answers(live: Live) -> None:
    before, after = _make_both_champions(live)
    ledger = Ledger(live.settings.ledger_url)
    generation = ledger.deployments("taxi_tip")[0].generation
    with running_chromium() as browser, opened_page(browser) as page:
        version_page = VersionPage(page, live.settings.mlflow_url, "taxi_tip", after)
        card = version_page.card()
        clicked_s = version_page.move_alias("champion")
        _answering(live, after)
        seconds = time.monotonic() - clicked_s
        print(f"from the click in MLflow to the first answer of the new version: {seconds:.2f} s")  # noqa: T201
        version_page.wait_for_alias("champion")
        page.goto(f"{live.settings.gateway_url}/console/taxi_tip")
        page.locator(".live .version", has_text=f"Version {after}").wait_for()
    assert seconds <= 5
    live_now = ledger.deployments("taxi_tip")[0]
    assert (live_now.generation, live_now.previous, live_now.version) == (generation + 1, before, after)
    assert live_now.actor == "MLflow" and f"from {before} to {after}" in live_now.reason
    assert card.startswith("taxi_tip") and "Trained because:" in card, card
    assert re.search(r"(Promoted|Kept as challenger|Rejected)\.", card), "the gate's verdict is not on the card"


def test_a_drill_on_the_running_stack_is_survived_and_leaves_it_as_it_was(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, previous = _make_both_champions(live)
    for name, value in settings_environment(live.settings).items():
        monkeypatch.setenv(name, value)
    names = ("worker", "bad-artifact", "webhook", "rollback")
    monkeypatch.setattr(sys, "argv", ["evergreen", "drill", "taxi_tip", "--yes", "--json", *_only(names)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    drilled = json.loads(said.out)
    assert end.value.code == 0 and drilled["ok"], said.out + said.err
    by_name = {each["name"]: each for each in drilled["rehearsals"]}
    assert set(by_name) == {*names, "as before"}
    assert all(each["verdict"] == "pass" and not each["errors"] for each in by_name.values())
    assert by_name["webhook"]["facts"]["silenced"] == 1
    assert by_name["rollback"]["answers"].keys() == {answers, previous}
    assert "has digest" in by_name["bad-artifact"]["facts"]["refused"]
    assert live.predict(live.instance()).json()["model_version"] == answers
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        newest, begun = ledger.entries("taxi_tip", kind="drill")[:2]
    assert (newest.action, begun.action) == ("pass", "begin")
    assert [each["name"] for each in newest.evidence["rehearsals"]] == [*by_name]


def test_a_drill_that_is_interrupted_puts_back_what_was_before(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _ = _make_both_champions(live)
    is_over, asked = Rollback.is_over, []

    def interrupting(rehearsal: Rollback, scene: Scene) -> bool:
        if (over := is_over(rehearsal, scene)) and not asked:
            asked.append(over)
            os.kill(os.getpid(), signal.SIGINT)
        return over

    monkeypatch.setattr(Rollback, "is_over", interrupting)
    with pytest.raises(KeyboardInterrupt):
        drill(live.settings, Plan("taxi_tip", ("rollback",)), lambda _: None)
    assert asked, "it was interrupted before anything was done"
    assert live.predict(live.instance()).json()["model_version"] == answers
    assert MlflowRegistry(live.settings.mlflow_url).alias("taxi_tip", "champion") == answers
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        assert ledger.entries("taxi_tip", kind="drill", limit=1)[0].action == "interrupt"
    assert not (live.settings.home / "run" / "drill.json").exists()


def _only(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--only", name)]
