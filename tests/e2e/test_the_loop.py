"""The loop on the live stack: exact features, versions that follow the alias, nothing lost."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis
from mlflow import MlflowClient

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
from tests.e2e.conftest import END, FIRST_TRAINING, Live, run


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
