"""One read gives the features of every stored view, on one Redis and on a cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import redis

from core.clock import to_us
from core.errors import DependencyDown
from core.settings import RedisSettings, Settings
from features import tiles
from features.batch.materialization import materialize_view
from features.connection import connect
from features.definitions import feature_set, view_digest
from features.offline.log import OfflineLog
from features.online.inspection import freshness, show
from features.online.packing import pack_window
from features.online.reader import FeatureReader
from features.streams import Keys, entity_text, partition_of
from features.tables import TableAccess
from tests.redis_process import ONCE
from tests.rich_use_case import rich_use_case

START = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
USE_CASE = rich_use_case()
COLUMNS = USE_CASE.features.columns
WINDOWS = {view.name: view for view in feature_set(USE_CASE).window_views}
PARTITIONS = 5
SALES = [
    {"shop": "a", "city": 1, "amount": 4.0, "buyer": "ops", "hours": -0.5},
    {"shop": "a", "city": 1, "amount": 1.0, "buyer": "till", "hours": -1.5},
    {"shop": "a", "city": 2, "amount": None, "buyer": "ops", "hours": -3.5},
    {"shop": "b", "city": None, "amount": 7.0, "buyer": None, "hours": -4.5},
]  # fmt: skip


@pytest.fixture(params=["server", "cluster"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    is_cluster = request.param == "cluster"
    url = request.getfixturevalue("redis_cluster" if is_cluster else "redis_server")
    client = connect(Settings(redis=RedisSettings(url=url, cluster=is_cluster)), socket_timeout=5)
    yield client
    client.close()


@pytest.fixture
def keys(client: redis.Redis, namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def reader(client: redis.Redis, keys: Keys) -> FeatureReader:
    return FeatureReader(USE_CASE, client, keys.namespace, PARTITIONS)


def moment(hours: float) -> datetime:
    return START + hours * HOUR


def store_windows(client: redis.Redis, keys: Keys, position: int = 77) -> None:
    """Write the window values that `SALES` amount to."""
    for view in WINDOWS.values():
        owners: dict[str, list[dict[str, Any]]] = {}
        for sale in SALES:
            values = [sale[key] for key in view.keys]
            if None not in values:
                owners.setdefault(entity_text(values), []).append(sale)
        for entity, sales in owners.items():
            at_us = np.array([to_us(moment(sale["hours"])) for sale in sales], dtype=np.int64)
            fields = {
                "amount": np.array([np.nan if s["amount"] is None else s["amount"] for s in sales]),
                "city": np.array([np.nan if s["city"] is None else s["city"] for s in sales]),
                "buyer": np.array([s["buyer"] or "" for s in sales], dtype=object),
            }
            rows = tiles.event_rows(view, at_us, fields)
            _, merged = tiles.merge(view, np.zeros(len(rows), dtype=np.int64), rows)
            name = keys.entity(partition_of(entity, PARTITIONS), view_digest(USE_CASE.name, view), entity)
            client.set(name, pack_window(position, merged))


def publish_prices(client: redis.Redis, keys: Keys, folder: Path, rows: list[tuple[str, float, float, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["shop", "hours", "price", "stock"])
    frame["at"] = [moment(hours) for hours in frame.pop("hours")]
    frame.to_parquet(folder / "prices.parquet")
    (view,) = (v for v in feature_set(USE_CASE).batch_views if v.name == "price")
    materialize_view(
        client, keys, OfflineLog(folder / "offline"), USE_CASE, view, moment(0), access=TableAccess(folder),
        partitions=PARTITIONS, expire=False,
    )  # fmt: skip


def question(shop: str, city: int | None, amount: float | None = 2.0) -> dict[str, Any]:
    return {"shop": shop, "city": city, "amount": amount}


def ask(reader: FeatureReader, *instances: dict[str, Any], hours: float = 0) -> Any:
    return reader.assemble(list(instances), np.full(len(instances), to_us(moment(hours)), dtype=np.int64))


def test_all_views_of_many_entities_in_one_read(
    client: redis.Redis, keys: Keys, reader: FeatureReader, tmp_path: Path
) -> None:
    store_windows(client, keys)
    publish_prices(client, keys, tmp_path, [("a", -2, 3.0, 5.0), ("b", -20, 1.0, 1.0)])
    got = ask(reader, question("a", 1), question("b", None), question("a", 1, None), question("x", 9), hours=-0.25)
    frame = pd.DataFrame(got.matrix, columns=list(COLUMNS))
    shop_a = {
        "recent_sales_2h": 2, "recent_sum_2h": 5, "recent_mean_2h": 2.5, "recent_min_2h": 1, "recent_max_2h": 4,
        "recent_last_2h": 4, "recent_buyers_2h": 2, "recent_per_sale_2h": 2.5, "recent_sales_5h": 3,
        "recent_per_sale_5h": np.float32(5 / 3), "corner_sales_4h": 2, "corner_share_4h": 2.5, "town_mean_6h": 2.5,
        "profile_mean": 0.5, "price_price": 3, "price_stock": 5, "amount": 2,
        "gap": np.float32(2.5 * 3 - 2.0 / 3),
    }  # fmt: skip
    assert {name: frame[name][0] for name in shop_a} == shop_a
    assert np.isnan(frame["gap"][2]) and np.isnan(frame["amount"][2])
    assert frame.drop(columns=["gap", "amount"]).loc[0].equals(frame.drop(columns=["gap", "amount"]).loc[2])
    shop_b = {"recent_sales_2h": 0, "recent_mean_2h": -1, "recent_sales_5h": 1, "corner_sales_4h": 0, "price_price": 9}
    assert {name: frame[name][1] for name in shop_b} == shop_b
    unknown = "{}: unknown entity".format
    assert got.degraded == [
        [unknown("profile")],
        [unknown("corner"), unknown("town"), unknown("profile"), "price: stale"],
        [unknown("profile")],
        [unknown(name) for name in ("recent", "corner", "town", "profile", "price")],
    ]
    pointer = got.known[0, 4]
    assert pointer > 0
    assert got.known.tolist() == [
        [77, 77, 77, 0, pointer], [77, 0, 0, 0, pointer], [77, 77, 77, 0, pointer], [0, 0, 0, 0, pointer]
    ]  # fmt: skip
    assert [name.partition("@")[0] for name in got.known_views] == ["recent", "corner", "town", "profile", "price"]


def test_one_row_at_a_time_gives_the_same(
    client: redis.Redis, keys: Keys, reader: FeatureReader, tmp_path: Path
) -> None:
    store_windows(client, keys)
    publish_prices(client, keys, tmp_path, [("a", -2, 3.0, np.nan), ("b", -1, 1.0, 1.0)])
    instances = [question(shop, city) for shop in ("a", "b", "nobody") for city in (1, 2, None)]
    for hours in (-6.0, -3.0, 0.0, 7.0, 40.0):
        together = ask(reader, *instances, hours=hours)
        for i, instance in enumerate(instances):
            alone = ask(reader, instance, hours=hours)
            np.testing.assert_array_equal(alone.matrix[0], together.matrix[i])
            assert alone.degraded[0] == together.degraded[i]
            assert alone.known[0].tolist() == together.known[i].tolist()


def test_a_window_holds_its_tiles_and_no_others(client: redis.Redis, keys: Keys, reader: FeatureReader) -> None:
    store_windows(client, keys)
    tile = WINDOWS["recent"].tile
    for hours in np.arange(-6, 8, 0.25):
        for window in (2, 5):
            now = (moment(float(hours)) - START) // tile
            counted = [s for s in SALES if s["shop"] == "a" and now - window < s["hours"] * HOUR // tile <= now]
            amounts = [s["amount"] for s in counted if s["amount"] is not None]
            row = ask(reader, question("a", 1), hours=float(hours)).matrix[0]
            assert row[COLUMNS.index(f"recent_sales_{window}h")] == len(counted)
            assert row[COLUMNS.index(f"recent_max_{window}h")] == max(amounts, default=-1.0)
            assert row[COLUMNS.index(f"recent_sum_{window}h")] == sum(amounts)


def test_entities_are_told_apart(client: redis.Redis, keys: Keys, tmp_path: Path) -> None:
    reader = FeatureReader(USE_CASE, client, keys.namespace, PARTITIONS)
    names = ["a:b", "a", "ünïcode {x}", "a\x1fb", "a\\x1fb", "x" * 5000]
    publish_prices(client, keys, tmp_path, [(name, -1, float(i), 0.0) for i, name in enumerate(names)])
    got = ask(reader, *(question(name, None) for name in names))
    assert got.matrix[:, COLUMNS.index("price_price")].tolist() == list(range(len(names)))


def test_a_lacking_entity_is_an_error_and_a_null_one_is_not(reader: FeatureReader) -> None:
    with pytest.raises(KeyError, match="shop"):
        ask(reader, {"city": 1, "amount": 1.0})
    assert len(ask(reader, {"shop": "a", "amount": 1.0}).degraded[0]) == 5
    assert ask(reader).matrix.shape == (0, len(COLUMNS))


def test_readers_beside_publishers_never_see_half(client: redis.Redis, keys: Keys, tmp_path: Path) -> None:
    names, done, faults = [f"s{i}" for i in range(60)], threading.Event(), []
    price, known_at = COLUMNS.index("price_price"), 4
    meaning: dict[int, float] = {}
    reads = []

    def read() -> None:
        mine = FeatureReader(USE_CASE, client, keys.namespace, PARTITIONS)
        while not done.is_set():
            got = ask(mine, *(question(name, None) for name in names))
            found = {(int(k), float(v)) for k, v in zip(got.known[:, known_at], got.matrix[:, price], strict=True)}
            reads.append(1)
            if len(found) != 1 or meaning.setdefault(*next(iter(found))) != next(iter(found))[1]:
                faults.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for refresh in range(15):
            publish_prices(client, keys, tmp_path, [(name, refresh / 100 - 1, refresh, 0.0) for name in names])
    finally:
        done.set()
        thread.join()
    assert faults == []
    assert reads


def test_a_severed_connection_is_replaced(redis_server: str, namespace: str) -> None:
    with redis.Redis.from_url(redis_server) as client:
        reader = FeatureReader(USE_CASE, client, namespace, PARTITIONS)
        ask(reader, question("a", 1))
        with redis.Redis.from_url(redis_server) as other:
            other.client_kill_filter(_type="normal", skipme=True)
        assert len(ask(reader, question("a", 1)).degraded[0]) == 5


def test_redis_away_is_said(redis_server: str, namespace: str, port: int) -> None:
    with redis.Redis(port=port, retry=ONCE) as client, pytest.raises(DependencyDown, match="Redis"):
        ask(FeatureReader(USE_CASE, client, namespace), question("a", 1))
    with redis.Redis.from_url(redis_server, socket_timeout=0.2) as client:
        reader = FeatureReader(USE_CASE, client, namespace)
        ask(reader, question("a", 1))
        with redis.Redis.from_url(redis_server) as other:
            other.execute_command("CLIENT", "PAUSE", 500, "ALL")
        with pytest.raises(DependencyDown, match="Timeout"):
            ask(reader, question("a", 1))
        with redis.Redis.from_url(redis_server) as other:
            other.ping()  # answered when the pause is over
        assert ask(reader, question("a", 1)).known.shape == (1, 5)


def test_little_is_kept_beside_the_values(client: redis.Redis, keys: Keys, tmp_path: Path) -> None:
    store_windows(client, keys)
    publish_prices(client, keys, tmp_path, [(f"a shop's name {i:06d}", -2, 3.0, 5.0) for i in range(10)])
    names = {cast(bytes, name) for p in range(PARTITIONS) for name in client.scan_iter(match=f"{keys.tag(p)}:*")}
    assert len(names) > 15
    for name in names:
        beyond = cast(int, client.memory_usage(name)) - len(cast(bytes, client.get(name)))
        assert beyond <= 200, (name, beyond)


def test_what_is_kept_of_an_entity_can_be_looked_at(client: redis.Redis, keys: Keys, tmp_path: Path) -> None:
    position = int(moment(-0.5).timestamp() * 1000) << 20
    assert set(freshness(client, keys, USE_CASE, PARTITIONS).values()) == {None}
    store_windows(client, keys, position)
    publish_prices(client, keys, tmp_path, [("a", -2, 3.0, np.nan)])
    client.hset(keys.counters(3), "known_at:sales", to_us(moment(-0.25)))
    assert freshness(client, keys, USE_CASE, PARTITIONS) == {
        "recent": moment(-0.25), "corner": moment(-0.25), "town": moment(-0.25), "profile": None, "price": moment(-2)
    }  # fmt: skip
    shown = {s.view: s for s in show(client, keys, USE_CASE, {"shop": "a"}, partitions=PARTITIONS, now=moment(0))}
    recent, price, corner = shown["recent"], shown["price"], shown["corner"]
    assert (recent.kind, recent.source, recent.entity, recent.tiles) == ("window", "sales", "a", 3)
    assert (recent.values["recent_sales_5h"], recent.age, recent.degraded) == (3, HOUR / 2, ())
    assert (price.values, price.age) == ({"price_price": 3.0, "price_stock": -1.0}, 2 * HOUR)
    assert (price.source, price.tiles, price.expires_in, price.size_bytes) == ("parquet", 0, None, 24)
    assert (corner.entity, corner.degraded, corner.age) == (None, ("corner: unknown entity",), None)
    got = FeatureReader(USE_CASE, client, keys.namespace, PARTITIONS).assemble(
        [question("a", None)], np.array([to_us(moment(0))], dtype=np.int64)
    )
    for view in shown.values():
        assert [got.matrix[0, COLUMNS.index(name)] for name in view.values] == list(view.values.values())
