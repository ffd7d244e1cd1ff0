"""Served and offline features agree bit for bit, whatever the stream does."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core.clock import to_us
from core.settings import Settings, StreamSettings
from features.audit import audit_features
from features.importing import instances_of
from features.materialization import compute_batch_view, publish
from features.offline import OfflineLog
from features.online import FeatureReader
from features.rebuild import digest, rebuild
from features.streams import Keys, encode_events, encode_predictions
from features.worker import StreamWorker
from tests.sample_use_case import sample_use_case

START = datetime(2020, 1, 1, tzinfo=UTC)
SHOPS = ("a", "b", "ünïcode shop/1", "c:d")


class World:
    """A stream worker, a reader and a clock over one Redis and one folder."""

    def __init__(self, client: redis.Redis, home: Path, flush_every_s: float = 0.01) -> None:
        self.client = client
        client.flushdb()
        self.use_case = sample_use_case()
        self.settings = Settings(home=home, clock="event", stream=StreamSettings(flush_every_s=flush_every_s))
        self.keys = Keys(self.settings.redis.namespace)
        self.log = OfflineLog(self.settings.offline_dir)
        self.worker = self.new_worker()
        self.reader = FeatureReader(self.use_case, client, self.settings.redis.namespace)
        self.now = START
        self.asked = 0

    def new_worker(self) -> StreamWorker:
        return StreamWorker(self.settings, self.client, {self.use_case.name: self.use_case})

    def send(self, events: list[dict[str, Any]]) -> None:
        self.client.xadd(self.keys.log, encode_events("sales", events, to_us(self.now)))

    def drain(self) -> None:
        while self.worker.step(block_ms=1) is not None:
            pass

    def flush(self) -> None:
        self.client.xadd(self.keys.log, {"kind": "flush"})
        self.drain()

    def ask(self, shops: list[str], behind: timedelta) -> None:
        instances = [{"shop": shop, "amount": None if i % 3 else 2.5} for i, shop in enumerate(shops)]
        at_us = np.full(len(shops), to_us(self.now - behind), dtype=np.int64)
        got = self.reader.assemble(instances, at_us)
        ids = [f"p{self.asked + i}" for i in range(len(shops))]
        self.asked += len(shops)
        fields = encode_predictions(
            use_case=self.use_case.name, version="1", watermark=got.watermark, now_us=to_us(self.now), ids=ids,
            at_us=at_us, degraded=got.degraded, matrix=got.matrix, scores=np.zeros(len(shops), np.float32),
            instances=instances, columns=self.use_case.features.columns,
        )  # fmt: skip
        self.client.xadd(self.keys.predictions, fields)

    def materialize(self) -> None:
        self.flush()
        for view in self.use_case.features.batch_views:  # type: ignore[attr-defined]
            frame = compute_batch_view(self.log, self.use_case, view, self.now)
            publish(self.client, self.keys, self.use_case, view, frame, self.now)


amounts = st.none() | st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.1, 0.2, 0.3])
event = st.tuples(st.sampled_from(SHOPS), amounts, st.integers(0, 8 * 60), st.integers(0, 60))
step = st.one_of(
    st.tuples(st.just("events"), st.lists(event, min_size=1, max_size=6)),
    st.tuples(st.just("ask"), st.lists(st.sampled_from((*SHOPS, "nobody")), min_size=1, max_size=4)),
    st.tuples(st.just("pass"), st.integers(1, 200)),
    st.tuples(st.just("drain"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("materialize"), st.none()),
)


def _event(now: datetime, shop: str, amount: float | None, late: int, number: int) -> dict[str, Any]:
    """An event up to eight hours late, or one of few ids that repeat, from the beginning at the earliest."""
    event = {"shop": shop, "amount": amount}
    if late > 400:
        at = min(START + timedelta(minutes=number * 20), now)
        return event | {"id": f"e{number}", "at_us": to_us(at)}
    return event | {"id": f"n{now:%j%H%M}{number}{late}", "at_us": to_us(now - timedelta(minutes=late))}


@given(steps=st.lists(step, max_size=30), data=st.data())
def test_served_features_equal_the_offline_join_for_any_stream(
    redis_client: redis.Redis, steps: list[tuple[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(redis_client, Path(folder))
        for action, value in steps:
            if action == "events":
                world.send([_event(world.now, *drawn) for drawn in value])
            elif action == "ask":
                world.ask(value, timedelta(minutes=data.draw(st.integers(0, 170))))
            elif action == "pass":
                world.now += timedelta(minutes=value)
            elif action == "drain":
                world.drain()
            elif action == "restart":
                world.worker = world.new_worker()
            else:
                world.materialize()
        world.ask([*SHOPS, "nobody"], timedelta(0))
        world.flush()
        report = audit_features(world.log, world.use_case, rows=10_000)
        assert report.rows == world.asked
        assert report.is_clean, report
        before = digest(redis_client, world.keys)
        rebuild(redis_client, world.keys, world.log, {"sample": world.use_case}, expire=False)
        assert digest(redis_client, world.keys) == before


def test_two_workers_on_one_stream_apply_each_event_once(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = World(redis_client, tmp_path)
    rival = world.new_worker()
    for i in range(40):
        world.send([{"id": f"e{i}", "at_us": to_us(START), "shop": "a", "amount": 0.1}])
        (world.worker if i % 2 else rival).step(block_ms=1)
    applied = world.reader.assemble([{"shop": "a", "amount": 1.0}], np.array([to_us(START)], dtype=np.int64))
    columns = world.use_case.features.columns
    assert applied.matrix[0, columns.index("recent_sales_2h")] == 40
    assert applied.matrix[0, columns.index("recent_total_2h")] == pytest.approx(4.0)


def test_a_worker_that_lost_the_race_changes_nothing(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = World(redis_client, tmp_path)
    world.send([{"id": "e1", "at_us": to_us(START), "shop": "a", "amount": 1.0}])
    entries = redis_client.xrange(world.keys.log)
    applier = world.worker._applier
    applier.apply(entries, 0)
    before = digest(redis_client, world.keys)
    with pytest.raises(redis.WatchError):
        applier.apply(entries, 0)
    assert digest(redis_client, world.keys) == before


def test_unknown_and_stale_entities_are_named(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = World(redis_client, tmp_path)
    world.send([{"id": "e1", "at_us": to_us(START), "shop": "a", "amount": 4.0}])
    world.materialize()
    world.drain()
    at = np.array([to_us(START), to_us(START), to_us(START + timedelta(hours=31))], dtype=np.int64)
    got = world.reader.assemble([{"shop": s, "amount": 1.0} for s in ("a", "x", "a")], at)
    assert got.degraded == [[], ["recent: unknown entity", "profile: unknown entity"], ["profile: stale"]]
    column = world.use_case.features.columns.index("profile_mean")
    assert got.matrix[:, column].tolist() == [4.0, 0.5, 0.5]


def test_history_rows_become_instances() -> None:
    import pandas as pd

    rows = pd.DataFrame({"shop": ["a", "b"], "amount": [1.0, np.nan]})
    assert instances_of(sample_use_case(), rows) == [{"shop": "a", "amount": 1.0}, {"shop": "b", "amount": None}]
