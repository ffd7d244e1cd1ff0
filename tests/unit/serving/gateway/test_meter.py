from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from core.errors import LimitReached
from serving.gateway.meter import DAY_S, Counts, Meter
from serving.keys.key import Key

NOON = 43_200.0 + DAY_S
KEY = Key("0123456789ab", "shop", "", frozenset({"predict"}), frozenset(), 10, 100, datetime(2019, 2, 2, tzinfo=UTC))


def accepted(meter: Meter, now_s: float, most: int = 1000) -> int:
    for n in range(most):
        try:
            meter.take(1, now_s)
        except LimitReached:
            return n
    return most


def test_what_others_counted_is_taken_from_what_is_left() -> None:
    meter = Meter(KEY)
    meter.take(2, NOON)
    sent = meter.hand_over(NOON)
    assert sent == Counts({43_200 + DAY_S: 2, 43_199 + DAY_S: 0}, {1: 2})
    meter.take(1, NOON)
    meter.learn(Counts({43_200 + DAY_S: 6}, {1: 50}))
    assert accepted(meter, NOON) == 10 - 6 - 1
    assert meter.hand_over(NOON).days == {1: 4}


def test_what_could_not_be_sent_is_sent_with_the_next() -> None:
    meter = Meter(KEY)
    meter.take(3, NOON)
    meter.take_back(meter.hand_over(NOON))
    meter.take(1, NOON)
    assert meter.hand_over(NOON) == Counts({43_200 + DAY_S: 4, 43_199 + DAY_S: 0}, {1: 4})
    meter.take_back(Counts({int(NOON) - 10: 5}, {-3: 5}))
    assert meter.hand_over(NOON + 20).days == {1: 0}


def test_calls_of_yesterday_are_still_told_today() -> None:
    meter = Meter(replace(KEY, rate_per_s=None))
    midnight = 2.0 * DAY_S
    meter.take(7, midnight - 0.01)
    assert meter.hand_over(midnight + 0.05) == Counts({}, {2: 0, 1: 7})
    assert accepted(meter, midnight + 0.1) == 100


def test_a_clock_that_steps_back_forgives_nothing() -> None:
    meter = Meter(KEY)
    assert accepted(meter, NOON) == 10
    assert accepted(meter, NOON - 5) == 0


def test_counters_that_redis_lost_are_not_forgotten_here() -> None:
    meter = Meter(replace(KEY, rate_per_s=None))
    meter.take(60, NOON)
    meter.hand_over(NOON)
    meter.learn(Counts({}, {1: 0}))
    assert accepted(meter, NOON) == 40


@pytest.mark.parametrize("rate", [1, 3, 10, 1000])
def test_no_span_of_a_second_of_the_clock_holds_more_than_the_rate(rate: int) -> None:
    meter = Meter(replace(KEY, rate_per_s=rate, quota_per_day=None))
    by_second: dict[int, int] = {}
    for step in range(400):
        now_s = NOON + step * 0.037
        by_second[int(now_s)] = by_second.get(int(now_s), 0) + accepted(meter, now_s)
    assert max(by_second.values()) <= rate
    assert sum(by_second.values()) >= rate


def test_a_key_without_limits_is_never_due() -> None:
    meter = Meter(replace(KEY, rate_per_s=None, quota_per_day=None))
    meter.take(10**9, NOON)
    assert not meter.is_due(NOON)
    limited = Meter(KEY)
    assert limited.is_due(NOON), "it does not know yet what others counted"
    limited.learn(Counts({}, {}))
    assert not limited.is_due(NOON)
    limited.take(1, NOON)
    assert limited.is_due(NOON)
    limited.hand_over(NOON)
    assert limited.is_due(NOON + 1), "it is in use"
    assert not limited.is_due(NOON + 3)
