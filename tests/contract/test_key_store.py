"""Keys are kept alike in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from core.errors import DependencyDown, KeyEnded, UnknownKey
from core.ledger import Ledger
from serving.keys.key import Key
from serving.keys.sql_store import SqlKeyStore
from serving.keys.store import KeyStore, MemoryKeyStore
from tests.postgres_process import postgres_url

NOW = datetime(2019, 2, 2, 3, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = Key(
    "00000000000a", "shop", "d" * 64, frozenset({"predict", "events"}), frozenset({"tip"}), 50, 10**11, NOW
)  # fmt: skip
NEXT = replace(KEY, id="00000000000b", created_at=NOW + timedelta(hours=1))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_url(tmp_path_factory.mktemp("postgres")) as url:
        yield url


def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: str = request.getfixturevalue("postgres")
    name = f"k{abs(hash(tmp_path)):x}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    url = database(request.param, request, tmp_path)
    with closing(Ledger(url)) as ledger:
        ledger.migrate()
    with closing(SqlKeyStore(url)) as store:
        yield store


def test_a_key_comes_back_as_it_was(store: KeyStore) -> None:
    assert store.read() == []
    store.add(NEXT)
    store.add(KEY)
    unlimited = replace(KEY, id="00000000000c", use_cases=frozenset(), rate_per_s=None, quota_per_day=None)
    store.add(unlimited)
    assert sorted(store.read(), key=lambda key: key.id) == [KEY, NEXT, unlimited]


def test_a_successor_bounds_the_life_of_the_old_key(store: KeyStore) -> None:
    store.add(KEY)
    old = store.succeed(KEY.id, NEXT, NOW + DAY)
    assert old == replace(KEY, replaced_by=NEXT.id, expires_at=NOW + DAY)
    assert store.read() == [old, NEXT]
    with pytest.raises(KeyEnded, match=f"was replaced by {NEXT.id}. Rotate {NEXT.id} instead"):
        store.succeed(KEY.id, replace(NEXT, id="00000000000c"), NOW + DAY)
    assert len(store.read()) == 2


def test_an_end_that_comes_earlier_stays(store: KeyStore) -> None:
    store.add(replace(KEY, expires_at=NOW + DAY / 2))
    assert store.succeed(KEY.id, NEXT, NOW + DAY).expires_at == NOW + DAY / 2


def test_what_ended_is_not_rotated(store: KeyStore) -> None:
    store.add(replace(KEY, expires_at=NOW + timedelta(minutes=1)))
    with pytest.raises(KeyEnded, match="is expired"):
        store.succeed(KEY.id, NEXT, NOW + DAY)
    store.revoke(KEY.id, NOW)
    with pytest.raises(KeyEnded, match="is revoked"):
        store.succeed(KEY.id, NEXT, NOW + DAY)


def test_a_key_is_revoked_once(store: KeyStore) -> None:
    store.add(KEY)
    assert store.revoke(KEY.id, NOW).revoked_at == NOW
    assert store.revoke(KEY.id, NOW + DAY).revoked_at == NOW
    assert store.read()[0].revoked_at == NOW


@pytest.mark.parametrize("key_id", ["00000000000f", "", "x" * 500, "ü✗"])
def test_a_key_that_is_not_there_is_named(store: KeyStore, key_id: str) -> None:
    with pytest.raises(UnknownKey, match="There is no key"):
        store.revoke(key_id, NOW)
    with pytest.raises(UnknownKey):
        store.succeed(key_id, NEXT, NOW)


def test_of_many_who_rotate_at_once_one_does(store: KeyStore) -> None:
    store.add(KEY)
    outcomes: list[bool] = []

    def rotate(number: int) -> None:
        try:
            store.succeed(KEY.id, replace(NEXT, id=f"{number:012x}"), NOW + DAY)
            outcomes.append(True)
        except KeyEnded:
            outcomes.append(False)

    threads = [threading.Thread(target=rotate, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(store.read()) == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_that_nobody_migrated_has_no_keys(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with closing(SqlKeyStore(database(kind, request, tmp_path))) as store:
        assert store.read() == []


def test_a_database_that_is_away_says_so_without_its_secrets() -> None:
    store = SqlKeyStore("postgresql+psycopg://ops:secret@127.0.0.1:1/ledger")
    with pytest.raises(DependencyDown, match="The ledger's database does not answer: OperationalError") as raised:
        store.read()
    assert "ops" not in str(raised.value)
    store.close()
