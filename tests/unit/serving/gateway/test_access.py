from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.errors import DependencyDown, Forbidden, QuotaExceeded, RateLimited, Unauthorized
from serving.gateway.access import Access
from serving.keys.key import Key, digest_of, new_secret

NOW = datetime(2019, 2, 2, 12, tzinfo=UTC)


class Clock:
    """Seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now_s = NOW.timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def issue(**changes: object) -> tuple[bytes, Key]:
    """A key as its holder and as the table have it."""
    secret, key_id = new_secret()
    key = Key(
        key_id, "shop", digest_of(secret.encode()), frozenset({"predict"}), frozenset(), None, None, created_at=NOW
    )
    return secret.encode(), replace(key, **changes)


def access_with(clock: Clock, *keys: Key, setting: str = "", is_loopback: bool = True) -> Access:
    access = Access(setting=setting, is_loopback=is_loopback, seconds=clock)
    access.adopt(keys)
    return access


def test_without_any_key_this_machine_may_do_everything_but_administer(clock: Clock) -> None:
    access = access_with(clock)
    assert access.check(None, "predict", "tip") is None
    assert access.check(b"whatever", "events", None) is None
    with pytest.raises(Forbidden, match="evergreen keys create"):
        access.check(None, "admin", None)
    with pytest.raises(Unauthorized, match="missing"):
        access_with(clock, is_loopback=False).check(None, "predict", "tip")


def test_one_key_closes_the_door_and_a_revoked_one_leaves_it_closed(clock: Clock) -> None:
    secret, key = issue()
    access = access_with(clock, key)
    found = access.check(secret, "predict", "tip")
    assert found is not None and found.id == key.id
    with pytest.raises(Unauthorized, match="missing"):
        access.check(None, "predict", "tip")
    access.adopt([replace(key, revoked_at=NOW)])
    with pytest.raises(Unauthorized, match=rf"The key {key.id} was revoked at 2019-02-02 12:00:00 UTC\."):
        access.check(secret, "predict", "tip")
    with pytest.raises(Unauthorized, match="missing"):
        access.check(None, "predict", "tip")


@pytest.mark.parametrize("forge", [
    lambda secret: secret[:-1] + (b"A" if secret[-1:] != b"A" else b"B"),
    lambda secret: b"eg_000000000000" + secret[15:],
    lambda secret: secret.upper(),
    lambda secret: secret + b" ",
    lambda secret: b"",
    lambda secret: b"\xff" * 70,
])  # fmt: skip
def test_what_is_not_the_secret_is_wrong(clock: Clock, forge: object) -> None:
    secret, key = issue()
    access = access_with(clock, key)
    access.check(secret, "predict", "tip")
    with pytest.raises(Unauthorized, match="wrong"):
        access.check(forge(secret), "predict", "tip")  # type: ignore[operator]


def test_a_key_ends_by_itself(clock: Clock) -> None:
    secret, key = issue(expires_at=NOW + timedelta(seconds=5))
    access = access_with(clock, key)
    access.check(secret, "predict", "tip")
    clock.now_s += 5
    with pytest.raises(Unauthorized, match="expired at 2019-02-02 12:00:05 UTC"):
        access.check(secret, "predict", "tip")


def test_scopes_and_use_cases_are_kept(clock: Clock) -> None:
    secret, key = issue(scopes=frozenset({"predict", "events"}), use_cases=frozenset({"tip", "click"}))
    access = access_with(clock, key)
    access.check(secret, "predict", "tip")
    access.check(secret, "events", frozenset({"tip", "click"}))
    access.check(secret, None, None)
    said = rf"{key.id} \(shop\) may predict, events of click, tip; this call needs "
    with pytest.raises(Forbidden, match=said + "feedback"):
        access.check(secret, "feedback", "tip")
    with pytest.raises(Forbidden, match=said + "predict of delay"):
        access.check(secret, "predict", "delay")
    with pytest.raises(Forbidden, match=said + "events of delay, tip"):
        access.check(secret, "events", frozenset({"tip", "delay"}))


def test_the_key_of_the_settings_may_do_everything(clock: Clock) -> None:
    secret, key = issue()
    access = access_with(clock, key, setting="päss")
    for scope in ("predict", "feedback", "events", "admin", None):
        found = access.check("päss".encode(), scope, "tip")  # type: ignore[arg-type]
        assert found is not None and found.id == "setting"
    access.check(secret, "predict", "tip")
    with pytest.raises(Unauthorized, match="wrong"):
        access.check(b"pass", "predict", "tip")


def test_until_the_keys_were_read_only_the_settings_count(clock: Clock) -> None:
    access = Access(setting="", is_loopback=True, seconds=clock)
    with pytest.raises(DependencyDown, match="could not be read yet"):
        access.check(None, "predict", "tip")
    with_setting = Access(setting="s", is_loopback=True, seconds=clock)
    with_setting.check(b"s", "predict", "tip")
    with pytest.raises(Unauthorized):
        with_setting.check(None, "predict", "tip")
    with pytest.raises(DependencyDown):
        with_setting.check(b"other", "predict", "tip")
    assert access.age_s() == float("inf")
    access.adopt([])
    clock.now_s += 3
    assert access.age_s() == 3


def test_the_rate_is_a_sliding_second(clock: Clock) -> None:
    secret, key = issue(rate_per_s=10)
    access = access_with(clock, key)
    for _ in range(10):
        access.check(secret, "predict", "tip")
    with pytest.raises(RateLimited) as refused:
        access.check(secret, "predict", "tip")
    assert (refused.value.limit, refused.value.window_s) == (10, 1)
    clock.now_s += 1.25  # three quarters of the calls are less than a second of the clock away
    for _ in range(2):
        access.check(secret, "predict", "tip")
    with pytest.raises(RateLimited):
        access.check(secret, "predict", "tip")
    clock.now_s += refused.value.retry_after_s
    access.check(secret, "predict", "tip", cost=0)
    clock.now_s += 5
    access.check(secret, "predict", "tip", cost=10)


def test_waiting_as_told_is_enough(clock: Clock) -> None:
    secret, key = issue(rate_per_s=3)
    access = access_with(clock, key)
    for _ in range(200):
        try:
            access.check(secret, "predict", "tip")
        except RateLimited as refused:
            assert 0 < refused.retry_after_s <= 2
            clock.now_s += refused.retry_after_s + 1e-6
            access.check(secret, "predict", "tip")
        clock.now_s += 0.01


def test_the_quota_is_of_the_day_and_refused_calls_do_not_count(clock: Clock) -> None:
    secret, key = issue(rate_per_s=2, quota_per_day=3)
    access = access_with(clock, key)
    access.check(secret, "predict", "tip", cost=2)
    for _ in range(5):
        with pytest.raises(RateLimited):
            access.check(secret, "predict", "tip")
    clock.now_s += 10
    access.check(secret, "predict", "tip")
    with pytest.raises(QuotaExceeded, match="3 calls per day") as refused:
        access.check(secret, "predict", "tip")
    assert refused.value.retry_after_s == 12 * 3600 - 10
    clock.now_s += refused.value.retry_after_s
    access.check(secret, "predict", "tip")


def test_counts_outlive_a_change_of_the_table_and_limits_follow_it(clock: Clock) -> None:
    secret, key = issue(quota_per_day=2)
    access = access_with(clock, key)
    access.check(secret, "predict", "tip", cost=2)
    access.adopt([replace(key, quota_per_day=3), issue()[1]])
    access.check(secret, "predict", "tip")
    with pytest.raises(QuotaExceeded):
        access.check(secret, "predict", "tip")
