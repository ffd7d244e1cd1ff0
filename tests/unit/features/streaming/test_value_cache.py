"""The values that a worker holds in memory: for how long they count as written lately, and how many there are."""

from __future__ import annotations

import time

import pytest

from features.streaming.value_cache import ValueCache

NAMES = [b"a", b"b"]


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_values_are_no_longer_young_after_half_a_day_without_events(clock: Clock) -> None:
    cache = ValueCache(10_000)
    cache.put(NAMES, [b"1", b"2"])
    clock.now_s = 11 * 3600
    assert cache.get(NAMES)[1].tolist() == [True, True]
    clock.now_s = 72 * 3600
    found, is_young = cache.get(NAMES)
    assert found == [b"1", b"2"]
    assert not is_young.any()
    cache.put([b"a"], [b"3"])
    found, is_young = cache.get(NAMES)
    assert found == [b"3", b"2"]
    assert is_young.tolist() == [True, False]
    clock.now_s = 85 * 3600
    assert cache.get(NAMES)[0] == [b"3", None]


def test_values_that_grow_count_towards_the_limit(clock: Clock) -> None:
    cache = ValueCache(10_000)
    for size in (1000, 2000, 1000, 4000):
        cache.put([b"a"], [b"x" * size])
        assert cache.get([b"a"])[1].all()
    cache.put([b"a"], [b"x" * 4900])
    found, is_young = cache.get([b"a"])
    assert found == [b"x" * 4900]
    assert not is_young.any()
