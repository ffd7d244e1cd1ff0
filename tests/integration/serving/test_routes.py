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
from serving.gateway_report import Report, Tally
from serving.routes import RedisRouteTable, in_flight, is_followed
from serving.routing import Route, Share

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Gateways:
    """Writes what gateways would."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self.clock = ManualClock(NOW)
        self.key = Keys(namespace).gateways
        self.client = client
        self.table = RedisRouteTable(client, namespace, self.clock)

    def report(self, name: str, routes: dict[str, Route], waiting: dict[str, int] | None = None) -> None:
        stamps = {use_case: route.stamp for use_case, route in routes.items()}
        tallies = {"toy/7": Tally(requests=3, errors=1)}
        report = Report(stamps, waiting or {}, tallies, to_us(self.clock.now()) // 1000)
        self.client.hset(self.key, name, report.encode())

    def follow(self, route: Route) -> bool:
        return is_followed(self.table.reports(), "toy", route)


@pytest.fixture
def gateways(redis_client: redis.Redis, namespace: str) -> Gateways:
    return Gateways(redis_client, namespace)


CANARY = Route("7", 12, canary=Share("8", 10))


def test_a_route_is_read_back_and_written_as_gateways_expect_it(
    gateways: Gateways, redis_client: redis.Redis, namespace: str
) -> None:
    gateways.table.publish("toy", CANARY)
    assert gateways.table.routes() == {"toy": CANARY}
    raw = redis_client.hget(Keys(namespace).routes, "toy")
    assert orjson.loads(raw) == {
        "version": "7", "generation": 12, "at": "2026-01-01T00:00:00+00:00", "canary": {"version": "8", "percent": 10},
    }  # fmt: skip


def test_a_route_that_cannot_be_read_counts_as_absent(
    gateways: Gateways, redis_client: redis.Redis, namespace: str
) -> None:
    redis_client.hset(Keys(namespace).routes, "toy", "{")
    assert gateways.table.routes() == {}


def test_a_route_is_followed_once_every_gateway_does(gateways: Gateways) -> None:
    assert gateways.follow(CANARY)
    gateways.report("a", {"toy": CANARY})
    gateways.report("b", {"toy": Route("7", 12)})
    assert not gateways.follow(CANARY)
    gateways.report("b", {"toy": CANARY, "other": Route("1", 3)})
    assert gateways.follow(CANARY)
    assert not gateways.follow(Route("7", 12, canary=Share("8", 11)))
    gateways.report("c", {})
    assert not gateways.follow(CANARY)


def test_a_gateway_without_a_sign_of_life_is_struck_off(gateways: Gateways) -> None:
    gateways.report("dead", {"toy": Route("6", 11)}, {"toy/6": 2})
    gateways.client.hset(gateways.key, "broken", "{")
    gateways.clock.advance(timedelta(seconds=5, milliseconds=1))
    gateways.report("alive", {"toy": CANARY}, {"toy/7": 1})
    assert gateways.follow(CANARY)
    assert in_flight(gateways.table.reports(), "toy") == {"7": 1}
    assert gateways.client.hkeys(gateways.key) == [b"alive"]
    assert gateways.table.reports()["alive"].tallies == {"toy/7": Tally(requests=3, errors=1)}


def test_what_is_in_flight_is_added_up(gateways: Gateways) -> None:
    gateways.report("a", {}, {"toy/6": 2, "toy/7": 1, "other/6": 9})
    gateways.report("b", {}, {"toy/6": 3, "toy/5": 0})
    assert in_flight(gateways.table.reports(), "toy") == {"6": 5, "7": 1}


def test_a_redis_that_is_away_is_named() -> None:
    table = RedisRouteTable.connect(Settings(redis=RedisSettings(url="redis://127.0.0.1:1/0")))
    for call in (table.routes, lambda: table.publish("toy", Route("1", 1)), table.reports):
        with pytest.raises(DependencyDown, match="Redis does not answer"):
            call()


def test_a_cluster_holds_the_table_too(redis_cluster: str, namespace: str) -> None:
    settings = Settings(redis=RedisSettings(url=redis_cluster, cluster=True, namespace=namespace))
    table = RedisRouteTable.connect(settings)
    table.publish("toy", Route("7", 12))
    assert table.routes() == {"toy": Route("7", 12)}
    assert table.reports() == {}


def test_a_cluster_that_is_away_is_named() -> None:
    with pytest.raises(DependencyDown, match="Redis does not answer"):
        RedisRouteTable.connect(Settings(redis=RedisSettings(url="redis://127.0.0.1:1/0", cluster=True)))
