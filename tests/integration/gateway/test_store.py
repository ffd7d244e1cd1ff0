"""The gateway's store on a real Redis and on a real cluster: one contract for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from core.errors import DependencyDown
from features.streams import Keys, position_of
from serving.gateway.intake import Intake
from serving.gateway.store import RedisStore
from tests.conftest import find_redis_server
from tests.redis_process import running_redis

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["one server", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    is_cluster = request.param == "cluster"
    store = RedisStore(request.getfixturevalue("redis_cluster" if is_cluster else "redis_server"), cluster=is_cluster)
    yield store
    await store.close()


async def test_events_reach_the_partitions_of_all_nodes(store: RedisStore, namespace: str) -> None:
    keys = Keys(namespace)
    intake = Intake(store, keys, partitions=16, max_entries=1000)
    events = [{"id": str(i), "at_us": i, "shop": i} for i in range(200)]
    positions = await intake.events("sales", (("shop",),), events, 5)
    streams = [keys.log(partition) for partition in range(16)]
    assert set(positions) == set(range(16))
    assert await store.lengths(streams) == [1] * 16
    ids = await store.append([(stream, {"kind": "flush"}) for stream in streams])
    assert all(position_of(i) > positions[partition] for partition, i in enumerate(ids))


async def test_hashes_are_read_and_written(store: RedisStore, namespace: str) -> None:
    await store.ping()
    key = Keys(namespace).routes
    assert await store.read_hash(key) == {}
    await store.write_field(key, "tip", b"1")
    await store.write_field(key, "gone", b"2")
    await store.write_field(key, "gone", None)
    assert await store.read_hash(key) == {"tip": b"1"}


async def test_a_call_that_is_refused_half_way_leaves_nothing(tmp_path: Path, port: int, namespace: str) -> None:
    """A Redis that runs full refuses some of a call's entries: then it must have none."""
    keys = Keys(namespace)
    with running_redis(find_redis_server(), port, tmp_path) as url, redis.Redis.from_url(url) as client:
        store = RedisStore(url)
        await store.append([(keys.log(0), {"n": 1}), (keys.log(1), {"n": 1})])
        client.config_set("maxmemory", 1)
        with pytest.raises(DependencyDown):
            await store.append([(keys.log(0), {"n": 2}), (keys.log(1), {"n": 2})])
        client.config_set("maxmemory", 0)
        assert await store.lengths([keys.log(0), keys.log(1)]) == [1, 1]
        await store.close()


@pytest.mark.parametrize("cluster", [False, True])
async def test_a_redis_that_is_away_is_said_in_time(cluster: bool) -> None:
    store = RedisStore("redis://127.0.0.1:1/0", cluster=cluster)
    with pytest.raises(DependencyDown, match="Redis does not answer"):
        await store.append([("a", {"n": 1})])
    await store.close()
