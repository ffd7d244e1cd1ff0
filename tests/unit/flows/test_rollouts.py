"""A rollout that a retrain began is finished once, whoever is killed in between, and not against a person's will."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.clock import ManualClock, SystemClock, to_us
from core.decision import Decision
from core.ledger import Ledger
from core.serving_policy import Serving
from core.use_case import UseCase
from features.offline.log import OfflineLog, stamp
from flows import rollouts
from flows.lease import hold
from flows.rollouts import begin_rollout, finish_rollout, starts_at_once
from registry.versions import MemoryRegistry, VersionInfo
from tests.sample_use_case import sample_use_case

NOW = datetime(2019, 2, 5, tzinfo=UTC)
_AN_HOUR = timedelta(hours=1)
WON = Decision("promote", "better", {"champion": {"version": "1"}, "decision_id": "7"})
USE_CASE: UseCase = replace(
    sample_use_case(), serving=Serving(start="canary", start_percent=20, start_period=timedelta(minutes=10))
)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two registered versions of which the first is champion; the ledger's clock is half an hour behind."""
    registry = MemoryRegistry(tmp_path / "registry")
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        info = VersionInfo(digest=number, as_of=NOW, reason="t", fingerprint="f", log_loss=0.5)
        registry.register("sample", tmp_path / number, info)
    registry.set_alias("sample", "champion", "1")
    monkeypatch.setattr(rollouts, "get_run_logger", lambda: logging.getLogger("rollouts"))
    clock = ManualClock(SystemClock().now() - timedelta(minutes=30))
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)) as ledger:
        ledger.migrate()
        yield SimpleNamespace(ledger=ledger, registry=registry, clock=clock)


@pytest.fixture
def begin(context: Any) -> Callable[[], str]:
    """Begins the rollout of version 2, as a retrain does."""

    def run() -> str:
        with hold(context.ledger, "retrain/sample") as lease:
            assert lease is not None
            return begin_rollout(context, USE_CASE, "2", WON, NOW, lease)

    return run


def deployer_says(context: Any, *actions: str) -> None:
    for action in actions:
        evidence: Mapping[str, Any] = {"role": "canary", "percent": 20.0}
        context.ledger.record(
            "sample", "deployment", Decision(action, f"{action}!", evidence), actor="deployer", as_of=NOW, version="2"
        )


def promotions(context: Any) -> list[tuple[str, str | None]]:
    return [(e.action, e.version) for e in reversed(context.ledger.entries("sample", kind="promotion"))]


def test_a_canary_that_passes_is_promoted_once(context: Any, begin: Callable[[], str]) -> None:
    assert "version 2 is canary with 20 %" in begin()
    assert "begun before" in begin()
    assert context.registry.desired()["sample"].tags == {"evergreen.canary_percent": "20"}
    assert finish_rollout(context, USE_CASE, NOW) is None, "the deployer has not followed yet"
    deployer_says(context, "canary", "pass")

    done = finish_rollout(context, USE_CASE, NOW)

    assert done is not None and done.action == "promote"
    assert context.registry.desired()["sample"].aliases == {"champion": "2"}
    assert finish_rollout(context, USE_CASE, NOW) is None
    assert promotions(context) == [("canary", "2"), ("promote", "2")]


def test_who_is_killed_after_the_alias_moved_is_followed_by_one_who_writes_it_down(
    context: Any, begin: Callable[[], str]
) -> None:
    begin()
    deployer_says(context, "canary", "pass")
    context.registry.set_alias("sample", "champion", "2")
    context.registry.set_alias("sample", "canary", "2")

    finish_rollout(context, USE_CASE, NOW)

    assert promotions(context) == [("canary", "2"), ("promote", "2")]
    assert context.registry.alias("sample", "canary") is None


def test_a_canary_that_is_taken_back_stays_challenger(context: Any, begin: Callable[[], str]) -> None:
    begin()
    deployer_says(context, "canary", "rollback")

    done = finish_rollout(context, USE_CASE, NOW)

    assert done is not None and (done.action, done.reason) == ("keep", "as canary it was taken back: rollback!")
    assert context.registry.alias("sample", "champion") == "1"


def test_a_champion_that_was_moved_meanwhile_stays(context: Any, begin: Callable[[], str], tmp_path: Path) -> None:
    begin()
    deployer_says(context, "canary", "pass")
    (tmp_path / "3").mkdir()
    other = VersionInfo(digest="3", as_of=NOW, reason="t", fingerprint="f", log_loss=0.5)
    context.registry.set_alias("sample", "champion", context.registry.register("sample", tmp_path / "3", other))

    done = finish_rollout(context, USE_CASE, NOW)

    assert done is not None and done.action == "keep" and "champion became 3" in done.reason
    assert context.registry.alias("sample", "champion") == "3"


@pytest.mark.parametrize(("scores", "action"), [((0.9, 0.1), "promote"), ((0.1, 0.9), "keep")])
def test_a_shadow_is_judged_on_the_requests_that_the_champion_answered(
    context: Any, tmp_path: Path, scores: tuple[float, float], action: str
) -> None:
    """Three hundred requests; the champion cannot tell them apart, the shadow gives ones the first of `scores`."""
    watched = replace(USE_CASE, serving=Serving(start="shadow", start_percent=100))
    n = 300
    label = np.arange(n) % 2
    at = stamp(np.arange(n, dtype=np.int64) * 60_000_000 + to_us(NOW))
    rows = pd.DataFrame({
        "prediction_id": [f"p{i}" for i in range(n)], "at": at, "known_at": at, "degraded": False, "shop": "a",
        "amount": 1.0, "version": "1", "role": "answer", "score": np.float32(0.5), "position": np.arange(1, n + 1),
    })  # fmt: skip
    answers = np.where(label == 1, *scores).astype("float32")
    shadow = rows.assign(version="2", role="shadow", score=answers, position=rows["position"] + n)
    context.log = OfflineLog(tmp_path / "offline")
    context.log.write("predictions", 2 * n, {"predictions/sample": pd.concat([rows, shadow], ignore_index=True)})
    known = rows[["prediction_id", "at", "position"]].assign(
        label=label.astype("int8"), known_at=at + pd.Timedelta("1h")
    )
    context.log.write("labels", n, {"labels/sample": known})
    with hold(context.ledger, "retrain/sample") as lease:
        assert lease is not None
        begin_rollout(context, watched, "2", WON, NOW, lease)
    told = Decision("shadow", "shadow!", {"role": "shadow", "percent": 100.0})
    context.ledger.record("sample", "deployment", told, actor="deployer", as_of=NOW, version="2")

    done = finish_rollout(context, watched, NOW)

    assert done is not None and done.action == action, done
    assert context.registry.alias("sample", "champion") == ("2" if action == "promote" else "1")
    assert context.registry.alias("sample", "shadow") is None


def test_a_first_version_always_begins_at_once() -> None:
    assert not starts_at_once(USE_CASE, WON)
    assert starts_at_once(USE_CASE, Decision("promote", "first"))
    assert starts_at_once(sample_use_case(), WON)
