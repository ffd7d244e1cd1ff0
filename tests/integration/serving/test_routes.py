"""The route table in a real Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
import redis

from core.clock import ManualClock, to_us
from core.errors import DependencyDown
from core.settings import RedisSettings, Settings
from features.streams import Keys
from serving.routes import RedisRouteTable, Route

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Gateways:
    """Writes what gateways would."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self.clock = ManualClock(NOW)
        self.key = Keys(namespace).gateways
        self.client = client
        self.table = RedisRouteTable(client, namespace, self.clock)

    def report(self, name: str, routes: dict[str, int], in_flight: dict[str, int] | None = None) -> None:
        entry = {"routes": routes, "inflight": in_flight or {}, "at_ms": to_us(self.clock.now()) // 1000}
        self.client.hset(self.key, name, orjson.dumps(entry))


@pytest.fixture
def gateways(redis_client: redis.Redis, namespace: str) -> Gateways:
    return Gateways(redis_client, namespace)


def test_a_route_is_read_back_and_written_as_gateways_expect_it(
    gateways: Gateways, redis_client: redis.Redis, namespace: str
) -> None:
    gateways.table.publish("toy", Route("7", 12))
    assert gateways.table.routes() == {"toy": Route("7", 12)}
    raw = redis_client.hget(Keys(namespace).routes, "toy")
    assert orjson.loads(raw) == {"version": "7", "generation": 12, "at": "2026-01-01T00:00:00+00:00"}


def test_a_route_that_cannot_be_read_counts_as_absent(
    gateways: Gateways, redis_client: redis.Redis, namespace: str
) -> None:
    redis_client.hset(Keys(namespace).routes, "toy", "{")
    assert gateways.table.routes() == {}


def test_a_route_is_picked_up_once_every_gateway_follows(gateways: Gateways) -> None:
    assert gateways.table.picked_up("toy", 12)
    gateways.report("a", {"toy": 12})
    gateways.report("b", {"toy": 11})
    assert not gateways.table.picked_up("toy", 12)
    gateways.report("b", {"toy": 12, "other": 3})
    assert gateways.table.picked_up("toy", 12)
    gateways.report("c", {})
    assert not gateways.table.picked_up("toy", 12)


def test_a_gateway_without_a_sign_of_life_is_struck_off(gateways: Gateways) -> None:
    gateways.report("dead", {"toy": 11}, {"toy/6": 2})
    gateways.client.hset(gateways.key, "broken", "{")
    gateways.clock.advance(timedelta(seconds=5, milliseconds=1))
    gateways.report("alive", {"toy": 12}, {"toy/7": 1})
    assert gateways.table.picked_up("toy", 12)
    assert gateways.table.in_flight("toy") == {"7": 1}
    assert gateways.client.hkeys(gateways.key) == [b"alive"]


def test_what_is_in_flight_is_added_up(gateways: Gateways) -> None:
    gateways.report("a", {}, {"toy/6": 2, "toy/7": 1, "other/6": 9})
    gateways.report("b", {}, {"toy/6": 3, "toy/5": 0})
    assert gateways.table.in_flight("toy") == {"6": 5, "7": 1}


def test_a_redis_that_is_away_is_named() -> None:
    table = RedisRouteTable.connect(Settings(redis=RedisSettings(url="redis://127.0.0.1:1/0")))
    for call in (table.routes, lambda: table.publish("toy", Route("1", 1)), lambda: table.picked_up("toy", 1)):
        with pytest.raises(DependencyDown, match="Redis does not answer"):
            call()


def test_a_cluster_holds_the_table_too(redis_cluster: str, namespace: str) -> None:
    settings = Settings(redis=RedisSettings(url=redis_cluster, cluster=True, namespace=namespace))
    table = RedisRouteTable.connect(settings)
    table.publish("toy", Route("7", 12))
    assert table.routes() == {"toy": Route("7", 12)}
    assert table.picked_up("toy", 12)


def test_a_cluster_that_is_away_is_named() -> None:
    with pytest.raises(DependencyDown, match="Redis does not answer"):
        RedisRouteTable.connect(Settings(redis=RedisSettings(url="redis://127.0.0.1:1/0", cluster=True)))
