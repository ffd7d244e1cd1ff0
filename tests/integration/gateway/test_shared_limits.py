"""Gateways that share a Redis share the limits of their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from core.errors import LimitReached
from features.streams import Keys
from serving.gateway.access import Access
from serving.gateway.limit_exchange import LimitExchange
from serving.gateway.store import RedisStore, Store
from serving.keys.key import Key, digest_of, new_secret

pytestmark = pytest.mark.anyio
NOON = 1_549_108_800.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["one server", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    is_cluster = request.param == "cluster"
    store = RedisStore(request.getfixturevalue("redis_cluster" if is_cluster else "redis_server"), cluster=is_cluster)
    yield store
    await store.close()


class Gateways:
    """What several gateway processes know of one key, on a clock of their own."""

    def __init__(self, n: int, store: Store, namespace: str, *, rate: int | None, quota: int | None) -> None:
        secret, key_id = new_secret()
        self.secret = secret.encode()
        made = datetime.fromtimestamp(NOON, tz=UTC)
        scopes = frozenset({"predict"})
        key = Key(key_id, "shop", digest_of(self.secret), scopes, frozenset(), rate, quota, made)  # type: ignore[arg-type]
        self.now_s = NOON
        self.failures = 0
        self.doors = [Access(setting="", is_loopback=True, seconds=self.seconds) for _ in range(n)]
        for door in self.doors:
            door.adopt([key])
        self.exchanges = [
            LimitExchange(door, store, Keys(namespace), failed=self._failed, seconds=self.seconds)
            for door in self.doors
        ]

    def seconds(self) -> float:
        return self.now_s

    async def exchange(self) -> None:
        for _ in range(2):  # the first ones learn what the last ones added
            for exchange in self.exchanges:
                await exchange.exchange()

    def ask(self, door: int, most: int) -> int:
        """How many of `most` calls one gateway accepts."""
        for n in range(most):
            try:
                self.doors[door].check(self.secret, "predict", "tip")
            except LimitReached:
                return n
        return most

    def _failed(self) -> None:
        self.failures += 1


async def test_a_quota_used_up_at_one_gateway_is_used_up_at_all(store: RedisStore, namespace: str) -> None:
    gateways = Gateways(2, store, namespace, rate=None, quota=100)
    assert gateways.ask(0, 90) == 90
    await gateways.exchange()
    assert gateways.ask(1, 90) == 10
    await gateways.exchange()
    assert gateways.ask(0, 90) == gateways.ask(1, 90) == 0


async def test_the_overshoot_is_what_the_others_accept_in_one_exchange(store: RedisStore, namespace: str) -> None:
    gateways = Gateways(3, store, namespace, rate=None, quota=100)
    for door in range(3):
        gateways.ask(door, 20)
    await gateways.exchange()
    within_one_exchange = [gateways.ask(door, 30) for door in range(3)]
    assert within_one_exchange == [30, 30, 30], "60 + 3 * 30 = 150 = 100 + 2 * 30 - 10, within the bound"
    await gateways.exchange()
    assert [gateways.ask(door, 30) for door in range(3)] == [0, 0, 0]
    gateways.now_s += 86_400
    assert gateways.ask(0, 30) == 30


async def test_the_rate_is_shared_second_by_second(store: RedisStore, namespace: str) -> None:
    gateways = Gateways(2, store, namespace, rate=50, quota=None)
    by_second: dict[int, int] = {}
    for step in range(100):
        gateways.now_s = NOON + step * 0.1
        asked = gateways.ask(step % 2, 20)
        by_second[int(gateways.now_s)] = by_second.get(int(gateways.now_s), 0) + asked
        await gateways.exchange()
    assert max(by_second.values()) <= 50
    assert sum(by_second.values()) >= 0.7 * 50 * 10


async def test_a_gateway_that_starts_learns_what_was_used_with_its_first_exchange(
    store: RedisStore, namespace: str
) -> None:
    gateways = Gateways(2, store, namespace, rate=None, quota=100)
    gateways.ask(0, 100)
    await gateways.exchange()
    fresh = Access(setting="", is_loopback=True, seconds=gateways.seconds)
    fresh.adopt([meter.key for meter in gateways.doors[0].meters()])
    await LimitExchange(fresh, store, Keys(namespace), seconds=gateways.seconds).exchange()
    with pytest.raises(LimitReached):
        fresh.check(gateways.secret, "predict", "tip")


async def test_what_is_refused_by_one_is_not_counted_for_any(store: RedisStore, namespace: str) -> None:
    gateways = Gateways(2, store, namespace, rate=None, quota=10)
    for _ in range(5):
        gateways.ask(0, 100)
        await gateways.exchange()
    counted = await store.add_counts([(Keys(namespace).calls(gateways.doors[0].meters()[0].key.id, "d17929"), 0, 60)])
    assert counted == [10]


async def test_without_redis_each_gateway_keeps_the_limit_and_tells_later(namespace: str, redis_server: str) -> None:
    away = RedisStore("redis://127.0.0.1:1/0")
    gateways = Gateways(2, away, namespace, rate=None, quota=100)
    assert gateways.ask(0, 60) == 60
    await gateways.exchange()
    assert gateways.failures == 4
    assert gateways.ask(0, 60) == 40
    back = RedisStore(redis_server)
    for exchange in gateways.exchanges:
        exchange._store = back
    await gateways.exchange()
    assert gateways.ask(1, 60) == 0
    await away.close()
    await back.close()
