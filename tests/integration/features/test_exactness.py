"""Served and offline features agree bit for bit, whatever the stream and the workers do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core.clock import to_us
from core.settings import Settings, StreamSettings
from core.use_case import Field
from features.batch.materialization import materialize_view
from features.definitions import FeatureSet, RequestView, feature_set, key_groups
from features.offline.audit import audit_features
from features.offline.importing import instances_of
from features.offline.log import OfflineLog
from features.online.reader import FeatureReader
from features.streaming.rebuild import digest, rebuild
from features.streaming.worker import StreamWorker
from features.streams import Keys, encode_events, encode_predictions, fan_out
from features.tables import TableAccess
from tests.rich_use_case import PRICES, rich_use_case
from tests.sample_use_case import sample_use_case

START = datetime(2020, 1, 1, tzinfo=UTC)
SHOPS = ("a", "b", "ünïcode shop/1", "c:d", "x\x1fy\\")
CITIES = (1, 2, None)


class Killed(Exception):
    """The worker's process ended here."""


class MortalPool(redis.ConnectionPool):
    """Connections that end the process that asks for one too many."""

    left = 10**9

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().get_connection(*args, **kwargs)


class World:
    """A stream worker, a reader and a clock over one Redis and one folder."""

    def __init__(self, client: redis.Redis, home: Path, partitions: int = 1) -> None:
        self.client = client
        client.flushdb()
        self.use_case = rich_use_case()
        stream = StreamSettings(flush_every_s=0.01, partitions=partitions)
        self.settings = Settings(home=home, data_dir=home, clock="event", stream=stream)
        self.partitions = partitions
        self.keys = Keys(self.settings.redis.namespace)
        self.log = OfflineLog(self.settings.offline_dir)
        self.groups = key_groups([self.use_case], "sales")
        self.restart()
        self.reader = FeatureReader(self.use_case, client, self.settings.redis.namespace, partitions)
        self.now = START
        self.asked = 0
        hours = range(0, 240, 3)
        shops = [SHOPS[i % 3] for i in range(len(hours))]
        prices = pd.DataFrame(
            {"shop": shops, "at": [START + timedelta(hours=h) for h in hours], "price": [h / 7 for h in hours]}
        ).assign(stock=[None if h % 2 else h for h in hours])
        prices.to_parquet(home / PRICES)

    def restart(self) -> None:
        """A new worker process; the old one's lease is over."""
        for partition in range(self.partitions):
            self.client.delete(self.keys.lease(partition))
        pool = MortalPool(**self.client.connection_pool.connection_kwargs)
        self.pool = pool
        mortal = redis.Redis(connection_pool=pool)
        self.worker = StreamWorker(self.settings, mortal, {self.use_case.name: self.use_case})

    def send(self, events: list[dict[str, Any]]) -> None:
        for place, rows in fan_out(self.groups, events, self.partitions).items():
            self.client.xadd(self.keys.log(place.partition), encode_events("sales", place, rows, to_us(self.now)))

    def drain(self) -> None:
        while self.worker.step():
            pass

    def kill(self, after: int) -> None:
        """Let the worker go on for so many calls to Redis, then end it."""
        self.pool.left = after
        with suppress(Killed):
            self.drain()
        self.restart()

    def flush(self) -> None:
        for partition in range(self.partitions):
            self.client.xadd(self.keys.log(partition), {"kind": "flush"})
        self.drain()

    def ask(self, shops: list[str], behind: timedelta) -> None:
        instances = [
            {"shop": shop, "city": CITIES[i % 3], "amount": None if i % 3 else 2.5} for i, shop in enumerate(shops)
        ]
        at_us = np.full(len(shops), to_us(self.now - behind), dtype=np.int64)
        got = self.reader.assemble(instances, at_us)
        ids = [f"p{self.asked + i}" for i in range(len(shops))]
        self.asked += len(shops)
        fields = encode_predictions(
            use_case=self.use_case.name, version="1", known=got.known, known_views=got.known_views,
            now_us=to_us(self.now), ids=ids, at_us=at_us, degraded=got.degraded, matrix=got.matrix,
            scores=np.zeros(len(shops), np.float32), instances=instances, columns=self.use_case.features.columns,
        )  # fmt: skip
        self.client.xadd(self.keys.predictions, fields)

    def materialize(self) -> None:
        self.flush()
        for view in feature_set(self.use_case).batch_views:
            materialize_view(
                self.client, self.keys, self.log, self.use_case, view, self.now,
                access=TableAccess(self.settings.data_dir), partitions=self.partitions, expire=False,
            )  # fmt: skip


@contextmanager
def a_world(client: redis.Redis, partitions: int = 1) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        yield World(client, Path(folder), partitions)


amounts = st.none() | st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.1, 0.2, 0.3])
event = st.tuples(
    st.sampled_from(SHOPS), st.sampled_from(CITIES), amounts, st.sampled_from([None, "ops", "bo", "ü"]),
    st.integers(0, 8 * 60), st.integers(0, 60),
)  # fmt: skip
step = st.one_of(
    st.tuples(st.just("events"), st.lists(event, min_size=1, max_size=6)),
    st.tuples(st.just("ask"), st.lists(st.sampled_from((*SHOPS, "nobody")), min_size=1, max_size=4)),
    st.tuples(st.just("pass"), st.integers(1, 200)),
    st.tuples(st.just("drain"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("kill"), st.integers(0, 40)),
    st.tuples(st.just("materialize"), st.none()),
)


def _event(
    now: datetime, shop: str, city: int | None, amount: float | None, buyer: str | None, late: int, number: int
) -> dict[str, Any]:
    """An event up to eight hours late, or one of few ids that repeat, from the beginning at the earliest."""
    event = {"shop": shop, "city": city, "amount": amount, "buyer": buyer}
    if late > 400:
        at = min(START + timedelta(minutes=number * 20), now)
        return {"id": f"e{number}", "at_us": to_us(at), **event}
    return {"id": f"n{now:%j%H%M}{number}{late}", "at_us": to_us(now - timedelta(minutes=late)), **event}


@pytest.mark.parametrize("partitions", [1, 3])
@given(steps=st.lists(step, max_size=30), data=st.data())
def test_served_features_equal_the_offline_join_for_any_stream(
    redis_client: redis.Redis, partitions: int, steps: list[tuple[str, Any]], data: st.DataObject
) -> None:
    with a_world(redis_client, partitions) as world:
        for action, value in steps:
            if action == "events":
                world.send([_event(world.now, *drawn) for drawn in value])
            elif action == "ask":
                world.ask(value, timedelta(minutes=data.draw(st.integers(0, 110))))
            elif action == "pass":
                world.now += timedelta(minutes=value)
            elif action == "kill":
                world.kill(value)
            else:
                getattr(world, action)()
        world.ask([*SHOPS, "nobody"], timedelta(0))
        world.flush()
        report = audit_features(world.log, world.use_case, rows=10_000, partitions=partitions)
        assert report.rows == world.asked
        assert report.is_clean, report
        before = digest(redis_client, world.keys, partitions)
        redis_client.flushdb()
        rebuild(redis_client, world.keys, world.log, {"rich": world.use_case}, partitions=partitions, expire=False)
        assert digest(redis_client, world.keys, partitions) == before


def test_an_audit_goes_on_after_a_request_field_was_added(redis_client: redis.Redis) -> None:
    with a_world(redis_client) as world:
        world.ask(["a", "b", "nobody"], timedelta(0))
        world.flush()
        note, size = Field(name="note", dtype="str", nullable=True), Field(name="items", dtype="int")
        more = replace(world.use_case, request=(*world.use_case.request, note, size))
        report = audit_features(world.log, more)
        assert (report.rows, report.skipped, report.is_clean) == (3, 0, True)
        items = RequestView(name="n", inputs=("items",), outputs=("n",), compute=lambda c: {"n": c["items"]})
        reads_it = replace(more, features=FeatureSet((*feature_set(more).views, items)))
        report = audit_features(world.log, reads_it)
        assert (report.rows, report.skipped) == (0, 3)


def test_history_rows_become_instances() -> None:
    rows = pd.DataFrame({"shop": ["a", "b"], "amount": [1.0, np.nan]})
    assert instances_of(sample_use_case(), rows) == [{"shop": "a", "amount": 1.0}, {"shop": "b", "amount": None}]
