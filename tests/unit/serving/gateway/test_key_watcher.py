from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from core.errors import DependencyDown, Unauthorized
from serving.gateway.access import Access
from serving.gateway.key_watcher import KeyWatcher
from serving.keys.key import Key, digest_of, new_secret
from serving.keys.store import MemoryKeyStore

NOW = datetime(2019, 2, 2, 12, tzinfo=UTC)


class Store(MemoryKeyStore):
    """A store that can be away, or fail as nobody foresaw; `looked` is released at each look."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None
        self.looked = threading.Semaphore(0)

    def read(self) -> list[Key]:
        self.looked.release()
        if self.trouble is not None:
            raise self.trouble
        return super().read()


def issue(store: MemoryKeyStore) -> bytes:
    secret, key_id = new_secret()
    digest = digest_of(secret.encode())
    store.add(Key(key_id, "shop", digest, frozenset({"predict"}), frozenset(), None, None, created_at=NOW))
    return secret.encode()


def test_while_the_database_is_away_the_keys_known_so_far_count(caplog: pytest.LogCaptureFixture) -> None:
    now_s = NOW.timestamp()
    store, access = Store(), Access(setting="", is_loopback=True, seconds=lambda: now_s)
    known = issue(store)
    watcher = KeyWatcher(store, access)
    watcher.read()
    store.trouble = DependencyDown("The ledger's database", "OperationalError")
    unknown = issue(store)
    for _ in range(5):
        now_s += 1
        watcher.read()
    access.check(known, "predict", "tip")
    with pytest.raises(Unauthorized):
        access.check(unknown, "predict", "tip")
    assert access.age_s() == 5
    assert caplog.text.count("go on to count") == 1
    store.trouble = None
    watcher.read()
    access.check(unknown, "predict", "tip")
    assert access.age_s() == 0


def test_the_thread_follows_the_table_and_outlives_any_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.gateway.key_watcher.EVERY_S", 0.001)
    store, access = Store(), Access(setting="", is_loopback=True)
    watcher = KeyWatcher(store, access)
    before = set(threading.enumerate())
    watcher.start()
    (reading,) = set(threading.enumerate()) - before
    access.check(None, "predict", "tip")
    store.trouble = RuntimeError("a driver's fault")
    for _ in range(1000):  # looks from before it were counted too
        assert store.looked.acquire(timeout=20)
        if "could not be read" in caplog.text:
            break
    store.trouble = None
    secret = issue(store)
    for _ in range(1000):
        assert store.looked.acquire(timeout=20)
        if access.age_s() < 60 and access.is_closed():
            break
    access.check(secret, "predict", "tip")
    watcher.stop()
    reading.join(timeout=20)  # `stop` waits a second at most, and the machine may be busy for longer
    assert not reading.is_alive()
    assert "could not be read" in caplog.text
