"""``evergreen features …`` and the features' part of the status, on a real Redis, worker and offline log."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from core.clock import to_us
from core.discovery import discover
from core.settings import RedisSettings, Settings
from features.connection import connect
from features.online.reader import FeatureReader
from features.streaming.rebuild import digest
from features.streaming.worker import StreamWorker, settle, wait_applied
from features.streams import Keys, encode_events, encode_predictions, fan_out, position_of
from serving.feature_status import read_features
from stack import cli

PARTITIONS = 4
USE_CASE = """
from datetime import timedelta
from core.use_case import EventSource, Field, History, Label, UseCase
from features.definitions import Aggregate, FeatureSet, WindowView

shop, clerk = Field(name="shop", dtype="int", example=3), Field(name="clerk", dtype="str", example="ops")


def view(name, entity):
    return WindowView(
        name=name, entity=entity, source="sales", tile=timedelta(minutes=1), windows=(timedelta(hours=1),),
        aggregates=(Aggregate(name="n", kind="count"), Aggregate(name="sum", kind="sum", field="amount")),
    )


use_case = UseCase(
    name="sale", description="", entities=(shop, clerk), request=(),
    sources=(EventSource(name="sales", fields=(shop, clerk, Field(name="amount", dtype="float"))),),
    features=FeatureSet((view("of_shop", "shop"), view("of_both", ("shop", "clerk")))),
    label=Label(name="sold", horizon=timedelta(days=1), known_only_after=()),
    estimator=lambda columns: None, history=lambda folder: History(None, None, {}),
)
"""
Worker = tuple[Settings, Keys]


@pytest.fixture(params=["one server", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("redis_cluster" if request.param == "cluster" else "redis_server"))


@pytest.fixture
def redis_client(redis_url: str, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client of the one or the other, emptied."""
    is_cluster = "cluster" in request.node.callspec.id
    with connect(Settings(redis=RedisSettings(url=redis_url, cluster=is_cluster))) as client:
        client.flushdb()
        yield client


@pytest.fixture
def worker(
    tmp_path: Path,
    redis_url: str,
    redis_client: redis.Redis,
    namespace: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Worker]:
    """A stream worker over four partitions, in a thread; the command line finds it by the environment."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sale.py").write_text(USE_CASE)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "MODELS_DIR": str(tmp_path / "models"),
        "REDIS__URL": redis_url,
        "REDIS__CLUSTER": str("cluster" in request.node.callspec.id),
        "REDIS__NAMESPACE": namespace,
        "STREAM__PARTITIONS": str(PARTITIONS),
        "STREAM__FLUSH_EVERY_S": "3600",
    }.items():
        monkeypatch.setenv(f"EVERGREEN_{name}", value)
    settings, stop = Settings(), threading.Event()
    use_cases = {name: found.use_case for name, found in discover(settings.models_dir).items()}
    thread = threading.Thread(target=StreamWorker(settings, redis_client, use_cases).run, args=(stop,))
    thread.start()
    yield settings, Keys(namespace)
    stop.set()
    thread.join()


def evergreen(*arguments: str) -> int:
    """Run one command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evergreen", "features", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def sell(client: redis.Redis, keys: Keys, *sales: tuple[str, int, str, float], at: datetime) -> None:
    """Send sales (id, shop, clerk, amount), as the gateway does, and wait until they count."""
    events = [
        {"id": identity, "at_us": to_us(at), "shop": shop, "clerk": clerk, "amount": amount}
        for identity, shop, clerk, amount in sales
    ]
    reached: dict[int, int] = {}
    for place, part in fan_out((("shop",), ("shop", "clerk")), events, PARTITIONS).items():
        entry: Any = client.xadd(keys.log(place.partition), encode_events("sales", place, part, to_us(at)))
        reached[place.partition] = position_of(entry)
    wait_applied(client, keys, reached)


def predict(client: redis.Redis, settings: Settings, at: datetime, *, error: float = 0.0) -> None:
    """Serve and log one prediction; its first feature is wrong by `error`."""
    use_case = discover(settings.models_dir)["sale"].use_case
    at_us = np.array([to_us(at)])
    instances = [{"shop": 3, "clerk": "ops"}]
    reader = FeatureReader(use_case, client, settings.redis.namespace, PARTITIONS)
    assembled = reader.assemble(instances, at_us)
    matrix = assembled.matrix.copy()
    matrix[0, 0] += error
    fields = encode_predictions(
        use_case="sale", version="1", known=assembled.known, known_views=assembled.known_views, now_us=to_us(at),
        ids=[f"p-{error}"], at_us=at_us, degraded=assembled.degraded, matrix=matrix,
        scores=np.zeros(1, np.float32), instances=instances, columns=use_case.features.columns,
    )  # fmt: skip
    client.xadd(Keys(settings.redis.namespace).predictions, fields)


def test_an_entity_is_shown(worker: Worker, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    _, keys = worker
    now = datetime.now(UTC)
    sell(redis_client, keys, ("a", 3, "ops", 2.5), ("b", 3, "till", 1.0), at=now - timedelta(minutes=3))

    assert evergreen("show", "sale", "shop=3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entity"] == {"shop": 3}
    (view,) = found["views"].values()
    assert view["values"] == {"of_shop_n_1h": 2.0, "of_shop_sum_1h": 3.5}
    assert (view["kind"], view["source"], view["degraded"]) == ("window", "sales", [])
    assert 0 <= view["age_s"] < 60, "since it was applied"
    assert 180 <= view["view_age_s"] < 240, "since the newest event became known"

    assert evergreen("show", "sale", "shop=3", "clerk=ops", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["views"]["of_both"]["values"] == {"of_both_n_1h": 1.0, "of_both_sum_1h": 2.5}

    assert evergreen("show", "sale", "shop=4") == 0
    said = capsys.readouterr().out
    assert "never" in said
    assert "Defaults are served for of_shop: unknown entity" in said
    assert evergreen("show", "sale", "clerk=ops") == 0
    assert "No view of sale is kept by clerk alone." in capsys.readouterr().out


def test_an_audit_tells_skew_per_feature(
    worker: Worker, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, keys = worker
    now = datetime.now(UTC)
    sell(redis_client, keys, ("a", 3, "ops", 2.5), at=now - timedelta(minutes=3))

    assert evergreen("audit", "sale") == 0
    assert "Nothing was served in that span that could be audited." in capsys.readouterr().out
    predict(redis_client, settings, now)
    assert evergreen("audit", "sale", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["skipped"], found["clean"]) == (1, 0, True)
    assert set(found["features"]) == {"of_shop_n_1h", "of_shop_sum_1h", "of_both_n_1h", "of_both_sum_1h"}

    predict(redis_client, settings, now, error=0.5)
    assert evergreen("audit", "sale", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["clean"]) == (2, False)
    assert found["features"]["of_shop_n_1h"] == {"mismatches": 1, "largest_difference": 0.5}
    assert evergreen("audit", "sale") == 1
    assert "2 served feature vectors recomputed from the log: 1 features differ." in capsys.readouterr().out
    assert evergreen("audit", "sale", "--until", "2019-01-01") == 0


def test_what_was_lost_is_rebuilt(
    worker: Worker, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    _, keys = worker
    sales = [(str(i), i % 20, "ops", 1.0) for i in range(100)]
    sell(redis_client, keys, *sales, at=datetime.now(UTC) - timedelta(minutes=3))
    settle(redis_client, keys, PARTITIONS)
    before = digest(redis_client, keys, PARTITIONS)
    redis_client.flushdb()
    assert evergreen("rebuild") == 0
    assert "Rebuilt the online features from 200 events" in capsys.readouterr().out
    assert digest(redis_client, keys, PARTITIONS) == before
    assert evergreen("compact") == 0


def test_the_status_tells_how_fresh_views_are(worker: Worker, redis_client: redis.Redis) -> None:
    settings, keys = worker
    use_cases = [found.use_case for found in discover(settings.models_dir).values()]
    empty = read_features(settings, use_cases)
    assert [view.newest_at for view in empty.views["sale"].values()] == [None, None]
    assert [each.events for each in empty.partitions] == [0] * PARTITIONS

    now = datetime.now(UTC)
    sell(redis_client, keys, ("a", 3, "ops", 2.5), ("a", 3, "ops", 2.5), at=now - timedelta(minutes=3))
    sell(redis_client, keys, ("b", 4, "ops", 2.5), at=now)
    found = read_features(settings, use_cases)
    assert found.views["sale"]["of_shop"].newest_at == now.isoformat()
    age_s = found.views["sale"]["of_shop"].age_s
    assert age_s is not None
    assert 0 <= age_s < 60
    assert sum(each.duplicates for each in found.partitions) >= 1
    assert all(each.waiting_entries == 0 for each in found.partitions)
    assert found.freshness is not None
    assert (found.freshness.waiting_s, found.freshness.last_prediction_s) == (0.0, None)
