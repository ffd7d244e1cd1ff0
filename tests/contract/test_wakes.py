"""The deployer is woken alike in memory and through Redis; without Redis it waits as long as it would have."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from core.settings import RedisSettings, Settings
from serving.wakes import MemoryWakes, RedisWakes, Wakes
from tests.conftest import free_port


@pytest.fixture(params=["memory", "redis"])
def wakes(request: pytest.FixtureRequest) -> Iterator[Wakes]:
    if request.param == "memory":
        yield MemoryWakes()
        return
    with redis.Redis.from_url(request.getfixturevalue("redis_server")) as client:
        yield RedisWakes(client, request.getfixturevalue("namespace"))


def test_a_wake_is_noticed_once_and_none_is_needed(wakes: Wakes) -> None:
    assert not wakes.wait(0.001)
    for _ in range(3):
        wakes.wake()
    assert wakes.wait(60)
    assert not wakes.wait(0.001)


def test_a_wake_ends_the_waiting(wakes: Wakes) -> None:
    assert not wakes.wait(0.001)
    waker = threading.Timer(0.05, wakes.wake)
    waker.start()
    assert wakes.wait(60)
    waker.join()


def test_without_redis_waiting_ends_with_the_process_and_waking_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    away = RedisWakes.connect(Settings(redis=RedisSettings(url=f"redis://127.0.0.1:{free_port()}/0")), stop)
    away.wake()
    assert "finds out by itself" in caplog.text
    assert not away.wait(0.001)
    stop.set()
    assert not away.wait(60)
    away.close()
