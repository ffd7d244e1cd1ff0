"""One Redis and a cluster of three nodes, used alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from core.settings import RedisSettings, Settings, StreamSettings
from features.connection import connect
from tests.soak import Soak

MakeSettings = Callable[..., Settings]


@pytest.fixture(params=["one Redis", "a cluster"])
def where(request: pytest.FixtureRequest, namespace: str) -> RedisSettings:
    """One Redis, or a cluster of three nodes, with a namespace of its own."""
    is_cluster = request.param == "a cluster"
    url = request.getfixturevalue("redis_cluster" if is_cluster else "redis_server")
    return RedisSettings(url=url, cluster=is_cluster, namespace=namespace)


@pytest.fixture
def settings(where: RedisSettings, tmp_path: Path) -> MakeSettings:
    """Settings of a replay, with what is given for the streams."""

    def make(**stream: object) -> Settings:
        return Settings(home=tmp_path, clock="event", redis=where, stream=StreamSettings(**stream))  # type: ignore[arg-type]

    return make


@pytest.fixture
def client(settings: MakeSettings) -> Iterator[redis.Redis]:
    """A client of it."""
    found = connect(settings())
    yield found
    found.close()


@pytest.fixture
def soak(where: RedisSettings, tmp_path: Path) -> Callable[..., Soak]:
    """A stream of so many events over so many partitions."""

    def make(events: int, partitions: int, folder: str = "soak") -> Soak:
        return Soak(where.url, where.cluster, where.namespace, tmp_path / folder, partitions, events)

    return make
