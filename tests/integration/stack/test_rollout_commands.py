"""Beginning, ending, comparing and showing canaries and shadows, with a real Redis and ledger."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis

from core.decision import Decision
from core.errors import DeploymentError
from core.ledger import Ledger
from core.settings import load_settings
from features.offline.log import OfflineLog, stamp
from features.streams import Keys
from serving.feature_status import read_features
from serving.gateway_report import Report, Tally
from serving.routes import RedisRouteTable
from serving.routing import Route, Share
from stack import cli
from stack.status import _use_case
from tests.torchserve_process import use_case_file

NOW = datetime.now(UTC)


class Registry:
    """Stands for MLflow: three versions."""

    aliases: dict[str, str]
    tags: dict[str, str]

    def __init__(self, url: str) -> None:
        self.url = url

    def alias(self, use_case: str, name: str) -> str | None:
        return Registry.aliases.get(name)

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        if version not in (None, "1", "2", "3"):
            raise DeploymentError(f"{use_case} has no version {version}.")
        Registry.tags |= tags or {}
        Registry.aliases.pop(name, None)
        if version is not None:
            Registry.aliases[name] = version


@pytest.fixture(autouse=True)
def home(tmp_path: Path, redis_server: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "toy.py").write_text(use_case_file())
    for name, value in (
        ("HOME", tmp_path / "home"), ("MODELS_DIR", tmp_path / "models"), ("REDIS__URL", redis_server),
        ("REDIS__NAMESPACE", namespace),
    ):  # fmt: skip
        monkeypatch.setenv(f"EVERGREEN_{name}", str(value))
    monkeypatch.setattr("registry.mlflow_registry.MlflowRegistry", Registry)
    monkeypatch.setattr("stack.commands.features._SETTLE_S", 0.1)  # there is no stream worker
    Registry.aliases, Registry.tags = {"champion": "1"}, {}
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{home / 'ledger.db'}")) as ledger:
        ledger.migrate()
        ledger.deploy(
            "toy", expected_generation=0, version="1", previous=None, actor="deployer", reason="alias", as_of=NOW
        )
        yield ledger


@pytest.fixture
def routes() -> Iterator[RedisRouteTable]:
    with closing(RedisRouteTable.connect(load_settings())) as table:
        table.publish("toy", Route("1", 1))
        yield table


def evergreen(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evergreen", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def by_hand(ledger: Ledger) -> list[tuple[str, str | None, str]]:
    return [(e.action, e.version, e.reason) for e in reversed(ledger.entries("toy", kind="promotion"))]


def test_a_canary_is_begun_and_waited_for(
    ledger: Ledger, routes: RedisRouteTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen("canary", "toy", "2", "--percent", "25", "--within-s", "1") == 1
    assert "Is the deployer running?" in capsys.readouterr().err
    routes.publish("toy", Route("1", 1, canary=Share("2", 25)))
    assert evergreen("canary", "toy", "2", "--percent", "25", "--reason", "looks good") == 0
    assert Registry.aliases["canary"] == "2" and Registry.tags == {"evergreen.canary_percent": "25"}
    assert by_hand(ledger)[-1] == ("canary", "2", "looks good")
    routes.publish("toy", Route("1", 1))
    assert evergreen("rollback", "toy", "--canary", "--reason", "complaints") == 0
    assert "canary" not in Registry.aliases and by_hand(ledger)[-1] == ("rollback", "2", "complaints")
    assert "Version 2 of toy is canary no longer." in capsys.readouterr().out


def test_a_shadow_is_begun_and_ended_without_waiting(ledger: Ledger) -> None:
    assert evergreen("shadow", "toy", "3", "--no-wait") == 0
    assert Registry.aliases["shadow"] == "3" and Registry.tags == {"evergreen.shadow_percent": "100"}
    assert evergreen("shadow", "toy", "--end", "--no-wait") == 0
    assert [action for action, _, _ in by_hand(ledger)] == ["shadow", "end"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("canary", "toy"), 2, "--end"),
        (("canary", "toy", "2", "--end"), 2, "--end"),
        (("canary", "toy", "2", "--percent", "101"), 2, "--percent"),
        (("canary", "toy", "9"), 1, "has no version 9"),
        (("canary", "toy", "1"), 1, "is its champion"),
        (("shadow", "toy", "--end"), 1, "has no shadow to end"),
        (("canary", "other", "2"), 1, "There is no use case 'other'"),
        (("compare", "toy"), 1, "has had no canary or shadow"),
    ],
)
def test_what_cannot_be_done_is_said(
    ledger: Ledger, arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen(*arguments) == code
    assert said in capsys.readouterr().err
    assert by_hand(ledger) == [] and Registry.aliases == {"champion": "1"}


def test_a_version_that_was_taken_back_has_to_lose_its_alias_first(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = Decision("rollback", "10 % failed", {"role": "canary"})
    ledger.record("toy", "deployment", decision, actor="deployer", as_of=NOW, version="2")
    assert evergreen("canary", "toy", "2") == 1
    assert "was taken back and its alias canary is not gone yet" in capsys.readouterr().err


def test_a_refusal_ends_the_waiting(
    ledger: Ledger, routes: RedisRouteTable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(seconds: float) -> None:
        refused = Decision("refuse", "toy 2 fails its smoke test", {})
        ledger.record("toy", "deployment", refused, actor="deployer", as_of=NOW, version="2")

    monkeypatch.setattr(time, "sleep", refuse)
    assert evergreen("canary", "toy", "2") == 1
    assert "fails its smoke test" in capsys.readouterr().err


def test_status_shows_the_split(
    ledger: Ledger, routes: RedisRouteTable, redis_server: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    routes.publish("toy", Route("1", 1, canary=Share("2", 25), shadow=Share("3", 100)))
    decision = Decision("canary", "2 answers 25 %", {"role": "canary", "percent": 25})
    ledger.record("toy", "deployment", decision, actor="deployer", as_of=NOW, version="2")
    with closing(redis.Redis.from_url(redis_server)) as client:
        for gateway in ("a", "b"):
            report = Report({}, {}, {"toy/1": Tally(30, 0), "toy/2": Tally(10, 1), "other/1": Tally(9, 9)}, 0)
            client.hset(Keys(namespace).gateways, gateway, report.encode())
        client.hset(Keys(namespace).gateways, "broken", "{")
    split = _use_case(ledger, "toy", read_features(load_settings(), [])).split
    assert split.champion is not None and (split.champion.version, split.champion.baking_since) == ("1", None)
    assert split.canary is not None and (split.canary.version, split.canary.percent) == ("2", 25)
    assert split.canary.baking_since is not None
    assert split.shadow is not None and split.shadow.version == "3"
    assert {v: (c.requests, c.errors) for v, c in split.versions.items()} == {"1": (60, 0), "2": (20, 2)}
    evergreen("status", "--json")
    shown = json.loads(capsys.readouterr().out)["use_cases"]["toy"]
    assert shown["split"]["barred"] == {}


def write_log(home: Path, n: int = 400) -> None:
    """Predictions of two hours ago, half by each version; a shadow scores the champion's; every label came."""
    rng, log = np.random.default_rng(0), OfflineLog(home / "offline")
    at = stamp([int((NOW - timedelta(hours=3)).timestamp() * 1e6) + i * 1_000_000 for i in range(n)])
    truth = rng.uniform(0.05, 0.95, n)
    rows = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(n)], "at": at, "known_at": at,
            "position": np.arange(1, n + 1), "version": np.where(np.arange(n) % 2, "2", "1"),
            "score": truth.astype(np.float32), "degraded": False, "role": "answer",
            "shop": [f"s{i % 50}" for i in range(n)], "amount": 1.0, "items": 1,
        }
    )  # fmt: skip
    shadows = rows[rows["version"] == "1"].assign(version="3", role="shadow", score=np.float32(0.5))
    shadows["position"] += n
    log.write("predictions", 2 * n, {"predictions/toy": pd.concat([rows, shadows])})
    labels = rows[["prediction_id", "at", "known_at", "position"]].assign(label=(rng.uniform(size=n) < truth))
    log.write("labels", n, {"labels/toy": labels.astype({"label": "int8"})})


def test_versions_are_compared_on_the_labels_that_came_back(
    ledger: Ledger, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for role, version in (("canary", "2"), ("shadow", "3")):
        started = Decision(role, "begun", {"role": role, "percent": 50})
        ledger.record("toy", "deployment", started, actor="deployer", as_of=NOW, version=version)
    write_log(home)
    assert evergreen("compare", "toy", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    told = {each["role"]: (each["version"], each["predictions"], each["labelled"]) for each in found["versions"]}
    assert told["champion"][0] == "1" and told["canary"][0] == "2" and told["shadow"][0] == "3"
    assert 195 <= told["champion"][1] == told["champion"][2] <= 200
    assert found["differences"]["canary"]["log_loss"]["low"] < 0 < found["differences"]["canary"]["log_loss"]["high"]
    assert found["differences"]["shadow"]["log_loss"]["low"] > 0, "a constant is worse, on the same requests"
    assert evergreen("compare", "toy") == 0
    assert "canary − champion" in capsys.readouterr().out
    later = (NOW - timedelta(hours=1)).isoformat()
    assert evergreen("compare", "toy", "--since", later) == 0
    assert "not been asked side by side yet" in capsys.readouterr().out
